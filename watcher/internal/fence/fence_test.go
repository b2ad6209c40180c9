package fence

import (
	"testing"
	"time"
)

func TestMayStart(t *testing.T) {
	terms := Terms{RenewDeadline: 10 * time.Second, BindTimeout: 4 * time.Second}
	renewed := time.Now()
	for after, want := range map[time.Duration]bool{
		0: true, 6*time.Second - 1: true, 6 * time.Second: false, 10 * time.Second: false,
	} {
		if got := terms.MayStart(renewed, renewed.Add(after)); got != want {
			t.Errorf("%v after the renewal: %v, want %v", after, got, want)
		}
	}
}
