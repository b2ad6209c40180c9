package result

import "cmp"

// Verdict says whether a run counts. Its JSON is a part of what programs read of a run.
type Verdict struct {
	// Violated says that bin/check found a rule broken; Problems are that and everything
	// else for which the run does not count.
	Violated bool     `json:"violated"`
	Problems []string `json:"problems,omitempty"`
}

// Status is the exit status that verdicts make: 1 if a rule was violated, else 2 if one
// run does not count for another reason, else 0.
func Status(verdicts ...Verdict) int {
	status := 0
	for _, v := range verdicts {
		switch {
		case v.Violated:
			return 1
		case len(v.Problems) > 0:
			status = cmp.Or(status, 2)
		}
	}
	return status
}
