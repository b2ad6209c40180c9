package remote

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/berth-scheduler/berth/decider/service"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// A decider that is there and too slow for the batch gets a smaller one, which it
// does not if it counts as away.
func TestLateIsNotAway(t *testing.T) {
	slow := serve(t, "127.0.0.1:0", service.Config{Policy: newBlocking(t)})
	r := run(t, Config{Deciders: names(slow.address), Timeout: 300 * time.Millisecond})
	r.wait(t, slow.address)
	decided, attempts := r.Decide(t.Context(), batch(t))
	wantCodes(t, attempts, codes.DeadlineExceeded)
	if decided.Err == nil || errors.Is(decided.Err, driver.ErrNoDecider) || !strings.Contains(decided.Err.Error(), slow.address) {
		t.Errorf("got %v, want an error about the batch that names the decider", decided.Err)
	}
}
