package plot

import (
	"math"
	"strconv"
	"strings"
)

// textWidth returns a width in pixels that s does not exceed in a font of the
// given size, whichever of the usual sans serif fonts the reader has: the
// figures are those of the widest, Verdana and DejaVu Sans, rounded up.
func textWidth(s string, size float64) float64 {
	ems := 0.0
	for _, r := range s {
		switch {
		case strings.ContainsRune("ijl!|'.,:; ", r):
			ems += 0.4
		case strings.ContainsRune("fIrtJ()[]/-\"", r):
			ems += 0.5
		case strings.ContainsRune("mwMWOQ@%&", r), r > 0x2000:
			ems += 1.1
		case 'A' <= r && r <= 'Z', strings.ContainsRune("+=<>~#", r):
			ems += 0.85
		default:
			ems += 0.66
		}
	}
	return ems * size
}

// widest returns the width of the widest text, 0 for none.
func widest(size float64, texts ...string) float64 {
	w := 0.0
	for _, t := range texts {
		w = max(w, textWidth(t, size))
	}
	return w
}

// number writes a measured value with at least three digits that count, and
// those before the point in groups: 0.0123, 4.50, 87.5, 1,234.
func number(v float64) string {
	if v == 0 {
		return "0"
	}
	decimals := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	return grouped(strconv.FormatFloat(v, 'f', decimals, 64))
}

// grouped puts commas between groups of three digits before the point.
func grouped(s string) string {
	whole, fraction, point := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if point {
		return whole + "." + fraction
	}
	return whole
}

// short writes the value of a tick: 0.01, 5, 200, 1k, 50k, 1M, 2G.
func short(v float64) string {
	unit := ""
	for _, u := range []string{"k", "M", "G", "T"} {
		if v < 1000 {
			break
		}
		v, unit = v/1000, u
	}
	return strconv.FormatFloat(v, 'g', 6, 64) + unit
}
