package plot

import "math"

// linearTicks returns ticks from 0 to the first that is not below most, at
// distances of 1, 2 or 5 times a power of ten, five or six or so of them.
func linearTicks(most float64) []float64 {
	if most <= 0 {
		most = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(most/5)))
	for _, times := range []float64{1, 2, 5, 10} {
		if most/(times*step) <= 6 {
			step *= times
			break
		}
	}
	ticks := []float64{0}
	for i := 1; ticks[len(ticks)-1] < most; i++ {
		ticks = append(ticks, float64(i)*step)
	}
	return ticks
}

// A logAxis maps values from least to most, powers of ten, onto pixels from at
// to at+length. A negative length points upward.
type logAxis struct {
	least, most int // exponents of ten
	at, length  float64
}

// newLogAxis returns the axis that has room for all the values, which are
// positive, and at least one power of ten.
func newLogAxis(values []float64, at, length float64) logAxis {
	least, most := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		least, most = min(least, math.Log10(v)), max(most, math.Log10(v))
	}
	a := logAxis{least: int(math.Floor(least)), most: int(math.Ceil(most)), at: at, length: length}
	if a.least == a.most {
		a.most++
	}
	return a
}

func (a logAxis) pixel(v float64) float64 {
	return a.at + a.length*(math.Log10(v)-float64(a.least))/float64(a.most-a.least)
}

// ticks returns the values at which the axis is labelled: the powers of ten,
// thinned out where there are more than nine, and also 2 and 5 times them where
// there are few.
func (a logAxis) ticks() []float64 {
	times, every := []float64{1}, (a.most-a.least)/9+1
	if a.most-a.least <= 2 {
		times = []float64{1, 2, 5}
	}
	var ticks []float64
	for e := a.least; e <= a.most; e += every {
		for _, t := range times {
			if e < a.most || t == 1 {
				ticks = append(ticks, t*math.Pow(10, float64(e)))
			}
		}
	}
	return ticks
}
