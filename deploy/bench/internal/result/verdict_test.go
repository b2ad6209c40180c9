package result

import "testing"

func TestStatus(t *testing.T) {
	good, short, bad := Verdict{}, Verdict{Problems: []string{"10 pods not bound"}}, Verdict{Violated: true, Problems: []string{"check: 1 violations"}}
	for _, test := range []struct {
		of   []Verdict
		want int
	}{{nil, 0}, {[]Verdict{good, good}, 0}, {[]Verdict{good, short, good}, 2}, {[]Verdict{short, bad, good}, 1}} {
		if got := Status(test.of...); got != test.want {
			t.Errorf("status of %+v is %d, want %d", test.of, got, test.want)
		}
	}
}
