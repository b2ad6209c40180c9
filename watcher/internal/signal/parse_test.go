package signal

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		text string
		want Value
	}{
		{"0.73", Value{Milli: 730}},
		{"0", Value{}},
		{"+3", Value{Milli: 3000}},
		{"-12.5", Value{Milli: -12500}},
		{"250m", Value{Milli: 250}},
		{"4Gi", Value{Milli: 4 << 30 * 1000}},
		{"1.5e3", Value{Milli: 1500_000}},
		{"2k", Value{Milli: 2000_000}},
		{"0.73@2026-01-31T12:00:00Z", Value{730, noon}},
		{"0.73@2026-01-31T13:00:00.5+01:00", Value{730, noon.Add(500 * time.Millisecond)}},
		// Away from 0, on both of the quantity parser's paths.
		{"0.0001", Value{Milli: 1}},
		{"-0.0001", Value{Milli: -1}},
		{"0.0015000000001", Value{Milli: 2}},
		{"-0.0015000000001", Value{Milli: -2}},
		{"-1e-99", Value{Milli: -1}},
		{"8999999999999", Value{Milli: 8999999999999_000}},
	} {
		got, err := Parse(test.text)
		if err != nil || got.Milli != test.want.Milli || !got.At.Equal(test.want.At) {
			t.Errorf("%q is %v, %v; want %v", test.text, got, err, test.want)
		}
	}
}

// What cannot be read is said back, with what to write instead.
func TestParseRefuses(t *testing.T) {
	const (
		number   = "write a quantity such as 0.73, 250m or 4Gi"
		smaller  = "write less than 9e15, in a larger unit"
		exponent = "an exponent that is too large"
		moment   = "write one such as 2026-01-31T12:00:00Z after the @"
	)
	for text, want := range map[string]string{
		"": number, "high": number, "NaN": number, "Inf": number, "-inf": number, " 1": number, "1 ": number, "1,5": number,
		".": number, "-": number, "e5": number, "k": number, "0x10": number, "1e": number, "@2026-01-31T12:00:00Z": number,
		"9e15": smaller, "-9e15": smaller, "1e99": smaller, "100E": smaller, "9999999Ei": smaller,
		"1e4294967297": exponent, "1e-1000000000": exponent, "1e+100": exponent,
		"1@": moment, "1@now": moment, "1@1769860800": moment, "1@2026-01-31": moment, "1@2026-01-31T12:00:00Z@": moment,
		"1@0001-01-01T00:00:00Z":  moment,
		strings.Repeat("1", 1000): "is longer than 64 characters",
	} {
		v, err := Parse(text)
		if err == nil {
			t.Errorf("%q is %v, want an error", text, v)
		} else if !strings.Contains(err.Error(), want) || len(err.Error()) > 200 {
			t.Errorf("%q: %q does not say %q in 200 characters", text, err, want)
		}
	}
}

func TestAnnotations(t *testing.T) {
	got := Annotations("example.com/", map[string]string{
		"example.com/power": "210", "example.com/load": "0.5@2026-01-31T12:00:00Z", "example.com/bad": "high",
		"example.com": "1", "other.com/load": "1", "example.com/": "1",
	})
	var errs []string
	for i := range got {
		if got[i].Err != nil {
			errs = append(errs, got[i].Name+": "+got[i].Err.Error())
			got[i].Err = nil
		}
	}
	want := []Annotation{
		{Key: "example.com/", Value: Value{Milli: 1000}},
		{Key: "example.com/bad", Name: "bad"},
		{Key: "example.com/load", Name: "load", Value: Value{500, noon}},
		{Key: "example.com/power", Name: "power", Value: Value{Milli: 210_000}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if len(errs) != 2 || !strings.HasPrefix(errs[0], ": the signal has no name") || !strings.HasPrefix(errs[1], `bad: "high" is not`) {
		t.Errorf("errors %q", errs)
	}
}

func TestCheckPrefix(t *testing.T) {
	for prefix, ok := range map[string]bool{
		"signals.example.com/": true, "example.com/signal-": true, "example.com/signal.x": true,
		"": false, "signals": false, "/": false, "/x": false, "a/b/": false, "Example.com/": false, "example.com/-": false, "a b/": false,
	} {
		if err := CheckPrefix(prefix); (err == nil) != ok {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

func TestShare(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, test := range []struct {
		used, all float64
		want      int64
		ok        bool
	}{
		{0, 4, 0, true}, {1, 4, 250, true}, {5, 4, 1250, true}, {1, 3000, 0, true}, {2, 3, 667, true},
		{1, 0, 0, false}, {1, -1, 0, false}, {-1, 4, 0, false}, {nan, 4, 0, false}, {1, nan, 0, false},
		{inf, 4, 0, false}, {inf, inf, 0, false}, {1e300, 1e-300, 0, false}, {1e17, 1, 0, false},
	} {
		if got, ok := Share(test.used, test.all); got != test.want || ok != test.ok {
			t.Errorf("Share(%v, %v) is %d, %v; want %d, %v", test.used, test.all, got, ok, test.want, test.ok)
		}
	}
}

// FuzzParse: whatever an annotation holds is a number or an error with a remedy, at
// once, and a
// number has the sign that was written.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"0.73", "-12.5m", "4Gi", "1e3", "NaN", "1e-1000000000", "0.1@2026-01-31T12:00:00Z", "1@now"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := Parse(text)
		if err != nil {
			if !strings.Contains(err.Error(), "write ") || (v != Value{}) {
				t.Errorf("%q: %v with the error %q, which has no remedy", text, v, err)
			}
			return
		}
		if v.Milli < 0 && text[0] != '-' || v.Milli > 0 && text[0] == '-' {
			t.Errorf("%q is %d thousandths", text, v.Milli)
		}
		if v.Milli > limit*1000 || v.Milli < -limit*1000 {
			t.Errorf("%q is %d thousandths, beyond the limit", text, v.Milli)
		}
		if strings.Contains(text, "@") == v.At.IsZero() {
			t.Errorf("%q has the time %v", text, v.At)
		}
		again, err := Parse(text)
		if err != nil || again.Milli != v.Milli || !again.At.Equal(v.At) {
			t.Errorf("%q is %v, then %v, %v", text, v, again, err)
		}
	})
}
