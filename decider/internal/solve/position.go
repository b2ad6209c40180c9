package solve

// Position is where the search for the best node begins: a place in the name
// order of all the snapshot's nodes. It depends on nothing but the seed, the
// pod's index in the request and the number of nodes, so that any decider can
// compute it. Seed 0 begins at the first name; any other seed is mixed with the
// index as SplitMix64 does it, and the rest of the division by nodes is taken.
func Position(seed uint64, index, nodes int) int {
	if seed == 0 || nodes == 0 {
		return 0
	}
	return int(Mix(seed, uint64(index)) % uint64(nodes))
}

// Mix is the output number index, from 0, of a SplitMix64 generator that was
// seeded with seed.
func Mix(seed, index uint64) uint64 {
	z := seed + (index+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
