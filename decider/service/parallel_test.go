package service

import (
	"sync/atomic"
	"testing"
)

func TestParallel(t *testing.T) {
	for n := range 20 {
		calls := make([]atomic.Int64, n)
		parallel(n, func(i int) { calls[i].Add(1) })
		for i := range calls {
			if got := calls[i].Load(); got != 1 {
				t.Errorf("%d of %d was called %d times", i, n, got)
			}
		}
	}
	// Only a panic in the caller's goroutine becomes an answer.
	defer func() {
		if p := recover(); p != "broken" {
			t.Errorf("recovered %v", p)
		}
	}()
	parallel(9, func(i int) {
		if i == 4 {
			panic("broken")
		}
	})
}
