package simulation

import "time"

// source is what a run's chances come from. A number depends on the seed and on what it
// is for, not on what was drawn before: a run keeps its course when a part of its plan
// is left out, which is what makes a story short.
type source uint64

// draw is one number, or a sequence of them.
type draw uint64

// at is the number for what the keys name.
func (s source) at(keys ...uint64) draw {
	x := uint64(s)
	for _, k := range keys {
		x = mix(x ^ mix(k+0x9e3779b97f4a7c15))
	}
	return draw(x)
}

// mix is splitmix64's output function.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// next is the next number of the sequence.
func (d *draw) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	return mix(uint64(*d))
}

// below is a number from 0 to n-1.
func (d *draw) below(n int) int { return int(d.next() % uint64(n)) }

// in is true permille times in a thousand.
func (d *draw) in(permille int) bool { return d.below(1000) < permille }

// between is a time from low to high, rather nearer to low.
func (d *draw) between(low, high time.Duration) time.Duration {
	f := float64(d.next()>>11) / (1 << 53)
	return low + time.Duration(f*f*float64(high-low))
}

// of is one of the values.
func of[T any](d *draw, values ...T) T { return values[d.below(len(values))] }
