package score

import (
	"math"
	"testing"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

func TestLeastAllocated(t *testing.T) {
	for _, c := range []struct {
		name        string
		allocatable model.Amounts
		taken, asks model.ScoreAmounts
		want        int64
	}{
		// kube-scheduler's own example: (10-5)/10 and (20-5)/20, halved and rounded.
		{"half and three quarters", model.Amounts{10, 20}, model.ScoreAmounts{2, 0}, model.ScoreAmounts{3, 5}, (50 + 75) / 2},
		{"nothing asked of an empty node", model.Amounts{10, 20}, model.ScoreAmounts{}, model.ScoreAmounts{}, 100},
		{"more than is there", model.Amounts{10, 20}, model.ScoreAmounts{8, 0}, model.ScoreAmounts{3, 10}, (0 + 50) / 2},
		{"overcommitted", model.Amounts{10, 20}, model.ScoreAmounts{11, 0}, model.ScoreAmounts{0, 0}, (0 + 100) / 2},
		{"no memory on the node", model.Amounts{10, 0}, model.ScoreAmounts{}, model.ScoreAmounts{5, 5}, 50},
		{"nothing on the node", model.Amounts{0, 0}, model.ScoreAmounts{}, model.ScoreAmounts{5, 5}, 0},
		{"rounded down, each and the mean", model.Amounts{3, 3}, model.ScoreAmounts{}, model.ScoreAmounts{1, 2}, (66 + 33) / 2},
		{"no overflow", model.Amounts{math.MaxInt64, math.MaxInt64}, model.ScoreAmounts{}, model.ScoreAmounts{1 << 62, 1 << 62}, 50},
		{"no overflow of what is taken", model.Amounts{10, 10}, model.ScoreAmounts{math.MaxInt64, 0}, model.ScoreAmounts{math.MaxInt64, 0}, (0 + 100) / 2},
	} {
		n := &model.Node{Allocatable: c.allocatable, ScoreRequested: c.taken}
		if got := leastAllocated(&model.Turn{Pod: &model.Pod{ScoreRequests: c.asks}}).Score(n); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
