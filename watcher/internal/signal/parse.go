package signal

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Annotation is an annotation that feeds a signal.
type Annotation struct {
	// Key is the annotation's, Name the signal's: the key without the prefix.
	Key, Name string
	Value     Value
	// Err says why the annotation cannot be read and what to write instead; Value is
	// then of no use.
	Err error
}

// CheckPrefix says whether the prefix is one of annotations' keys: a domain, a slash,
// and perhaps what the names after it begin with.
func CheckPrefix(prefix string) error {
	domain, start, ok := strings.Cut(prefix, "/")
	if !ok || len(validation.IsDNS1123Subdomain(domain)) > 0 || len(validation.IsQualifiedName(start+"x")) > 0 || strings.Contains(start, "/") {
		return fmt.Errorf("%s: want what annotations' keys begin with, a domain and a slash, such as signals.example.com/", prefix)
	}
	return nil
}

// Annotations reads those of a node's annotations whose keys begin with the prefix,
// in the order of their keys.
func Annotations(prefix string, all map[string]string) []Annotation {
	var out []Annotation
	for _, key := range slices.Sorted(maps.Keys(all)) {
		name, ok := strings.CutPrefix(key, prefix)
		if !ok {
			continue
		}
		a := Annotation{Key: key, Name: name}
		if a.Value, a.Err = Parse(all[key]); name == "" {
			a.Err = errors.New("the signal has no name: write it after the prefix")
		}
		out = append(out, a)
	}
	return out
}

// maxText is the longest text that is read. The longest of any use, sign, nineteen
// digits, point, suffix, and a time in nanoseconds with its offset, has 60.
const maxText = 64

// Parse reads "VALUE" or "VALUE@TIME": a Kubernetes quantity, which a decimal is too,
// and when it was measured, by RFC 3339. Digits beyond thousandths are rounded away
// from 0. Numbers below 0 are numbers like others. There is no NaN
// and no infinity, and what thousandths in 64 bits do not hold is an error.
func Parse(text string) (Value, error) {
	if len(text) > maxText {
		return Value{}, fmt.Errorf("%q... is longer than %d characters: write a number such as 0.73", text[:maxText], maxText)
	}
	number, at, timed := strings.Cut(text, "@")
	var v Value
	if timed {
		var err error
		if v.At, err = time.Parse(time.RFC3339, at); err != nil || v.At.IsZero() {
			return Value{}, fmt.Errorf("%q is not a time: write one such as 2026-01-31T12:00:00Z after the @, or leave the @ out", at)
		}
	}
	q, err := parseQuantity(number)
	if err != nil {
		return Value{}, err
	}
	if _, ok := thousandths(q.AsApproximateFloat64()); !ok {
		return Value{}, fmt.Errorf("%q is too large: write less than 9e15, in a larger unit", number)
	}
	if q.Sign() < 0 {
		q.Neg() // quantities round up, which for those below 0 is towards it
		v.Milli = -q.MilliValue()
	} else {
		v.Milli = q.MilliValue()
	}
	return v, nil
}

// parseQuantity is resource.ParseQuantity without its weaknesses: it cuts exponents
// to 32 bits, works through those far below 0 digit by digit, and takes "." for 0.
func parseQuantity(text string) (resource.Quantity, error) {
	if i := strings.LastIndexAny(text, "eE"); i >= 0 {
		if exponent := strings.TrimLeft(text[i+1:], "+-0"); len(exponent) > 2 {
			return resource.Quantity{}, fmt.Errorf("%q has an exponent that is too large: write a number such as 0.73", text)
		}
	}
	q, err := resource.ParseQuantity(text)
	digits := strings.TrimLeft(text, "+-.")
	if err != nil || digits == "" || digits[0] < '0' || digits[0] > '9' {
		return resource.Quantity{}, fmt.Errorf("%q is not a number: write a quantity such as 0.73, 250m or 4Gi", text)
	}
	return q, nil
}

// limit is the number, on either side of 0, that is too large: a little less than
// what thousandths in 64 bits can hold, so that no rounding gets past it.
const limit = 9e15

// Share is used of all, in thousandths, rounded to the nearest: false if there is
// nothing to have a share of, or if either number is none.
func Share(used, all float64) (int64, bool) {
	if !(all > 0) || !(used >= 0) {
		return 0, false
	}
	return thousandths(used / all)
}

// thousandths is false for what is too large, and for NaN.
func thousandths(x float64) (int64, bool) {
	if !(math.Abs(x) < limit) {
		return 0, false
	}
	return int64(math.Round(x * 1000)), true
}
