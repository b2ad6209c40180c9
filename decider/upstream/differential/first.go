package main

import (
	"context"
	"errors"
	"fmt"
)

// errDiffer is what first returns once the answers differ.
var errDiffer = errors.New("answers differ")

// first runs cases one after the other until the answers differ, which it prints
// with the number of cases that it took. The index is not asked: what is wrong with
// rules it may get wrong as well, or not.
func first(ctx context.Context, seed uint64, cases int) error {
	judges, err := NewJudges(ctx, false)
	if err != nil {
		return err
	}
	report := newReport()
	for number := range cases {
		if err := report.run(ctx, judges, seed, uint64(number)); err != nil {
			return err
		}
		if len(report.Failures) > 0 {
			fmt.Printf("difference after %d cases: %s\n", number+1, report.Failures[0].Difference.Kind)
			return errDiffer
		}
	}
	fmt.Printf("no difference in %d cases\n", cases)
	return nil
}
