package score

import (
	"math"
	"math/bits"
	"slices"
)

// normalize scales scores, none of which is negative, so that the highest becomes
// Max; reverse turns them round, so that 0 becomes Max. Where all are 0 none is
// above the others, whichever way round: they become 0, in reverse Max.
// (kube-scheduler's helper.DefaultNormalizeScore.)
func normalize(scores []int64, reverse bool) {
	highest := slices.Max(scores)
	for i, score := range scores {
		if highest > 0 {
			score = share(score, highest)
		}
		if reverse {
			score = Max - score
		}
		scores[i] = score
	}
}

// share is part of whole in parts of Max, rounded down. part is 0 to whole, which is
// more than 0. Where kube-scheduler's product overflows, from 2^63/100 on, this is
// still what it means.
func share(part, whole int64) int64 {
	if part <= math.MaxInt64/Max {
		return part * Max / whole
	}
	high, low := bits.Mul64(uint64(part), Max)
	quotient, _ := bits.Div64(high, low, uint64(whole))
	return int64(quotient)
}

// add adds two numbers and stops at the ends of int64, where kube-scheduler's sums
// wrap round.
func add(a, b int64) int64 {
	switch sum := a + b; {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	default:
		return sum
	}
}
