package index

// fan is how many values share one maximum: what one cache line holds.
const fan = 16

// none is the value of a place without one.
const none int32 = -1

// tree holds a value, none or more, for each of a number of places, knows the highest,
// and finds the first place with a value at least as high as a given one. Values and
// the maxima of fan of them at a time, level by level, cost 4.3 bytes per place.
type tree struct {
	// levels has the values first and the one maximum of all last.
	levels [][]int32
}

func newTree(places int) *tree {
	t := &tree{}
	for {
		level := make([]int32, places)
		for i := range level {
			level[i] = none
		}
		t.levels = append(t.levels, level)
		if places <= 1 {
			return t
		}
		places = (places + fan - 1) / fan
	}
}

// bytes is what a tree of so many places takes, about.
func treeBytes(places int) int64 { return int64(places)*4*(fan+1)/fan + 128 }

// top is the highest value; none if there is no place.
func (t *tree) top() int32 {
	last := t.levels[len(t.levels)-1]
	if len(last) == 0 {
		return none
	}
	return last[0]
}

// set gives a place a value.
func (t *tree) set(place, value int32) {
	before := t.levels[0][place]
	if before == value {
		return
	}
	t.levels[0][place] = value
	for l := 1; l < len(t.levels); l++ {
		below, up := t.levels[l-1], place/fan
		was := t.levels[l][up]
		now := was
		switch {
		case value >= was:
			now = value
		case before == was: // it may have been the only one
			now = highest(below[up*fan : min(int(up+1)*fan, len(below))])
		}
		if now == was {
			return
		}
		t.levels[l][up] = now
		before, value, place = was, now, up
	}
}

// fill sets the maxima after the values were written to levels[0].
func (t *tree) fill() {
	for l := 1; l < len(t.levels); l++ {
		below := t.levels[l-1]
		for up := range t.levels[l] {
			t.levels[l][up] = highest(below[up*fan : min((up+1)*fan, len(below))])
		}
	}
}

func highest(values []int32) int32 {
	most := values[0]
	for _, v := range values[1:] {
		most = max(most, v)
	}
	return most
}

// next returns the first place from from on whose value is at least value, or -1.
func (t *tree) next(from, value int32) int32 {
	if int(from) >= len(t.levels[0]) {
		return -1
	}
	// Up, while nothing that follows below the same maximum will do; then down.
	place, l := from, 0
	for {
		level := t.levels[l]
		end := min(int(place/fan+1)*fan, len(level))
		found := int32(-1)
		for i := int(place); i < end; i++ {
			if level[i] >= value {
				found = int32(i)
				break
			}
		}
		if found >= 0 {
			for l > 0 {
				l--
				level = t.levels[l]
				for i := int(found) * fan; ; i++ {
					if level[i] >= value {
						found = int32(i)
						break
					}
				}
			}
			return found
		}
		if end == len(level) || l == len(t.levels)-1 {
			return -1
		}
		place, l = int32(end/fan), l+1
	}
}
