package simulation

import (
	"strings"
	"testing"
)

func TestTry(t *testing.T) {
	tally := NewTally()
	laws := map[string]int{}
	for seed := uint64(1); seed <= 2000; seed++ {
		o := Run(seed, tally)
		if o.Broken != nil {
			laws[o.Broken.Law]++
			if laws[o.Broken.Law] <= 3 {
				t.Logf("seed %d: %s", seed, o.Broken)
			}
		}
	}
	t.Log(laws, tally.Steps, tally.Occasions, tally.Bound, tally.Passed, tally.Rest)
	_ = strings.Join
}
