package service

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A stream that was superseded feeds no more, even if it begins anew before it has heard
// of that: it is about to end.
func TestSupersededStreamsStaySuperseded(t *testing.T) {
	h := newHeld()
	a, b, c := h.arrive(), h.arrive(), h.arrive()
	if err := h.begin(a, "e1"); err != nil {
		t.Fatal(err)
	}
	if err := h.begin(b, "e2"); err != nil {
		t.Fatal(err)
	}
	if err := h.begin(a, "e3"); status.Code(err) != codes.Aborted {
		t.Errorf("the superseded stream begins anew: %v, want ABORTED", err)
	}
	select {
	case <-b.evicted:
		t.Error("the stream that feeds is superseded by one that was")
	default:
	}
	if err := h.begin(c, "e4"); err != nil {
		t.Error(err)
	}
}
