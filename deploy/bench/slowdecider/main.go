// Slowdecider is a decider that takes its time: it decides by the default policy, and then
// sleeps. It stands for a policy that is slow by itself, such as one that asks a model, so
// that several of them can be measured on a machine that has not as many processors.
package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/process"
	"github.com/berth-scheduler/berth/decider/service"
)

func main() { program.Main() }

var program = process.Program{
	Name:    "slowdecider",
	Purpose: "slowdecider is a decider with the default policy that takes some time for each pod.",
	Flags: func(flags *flag.FlagSet) process.Configure {
		perPod := flags.Duration("per-pod", 20*time.Millisecond, "how long it sleeps for each pod that some node can take")
		return func(context.Context) (service.Config, []any, error) {
			if *perPod < 0 {
				return service.Config{}, nil, process.UsageError{Err: fmt.Errorf("--per-pod %v is less than nothing", *perPod)}
			}
			return service.Config{Policy: slow{policy.Default(), *perPod}}, []any{"perPod", *perPod}, nil
		}
	},
}

// slow ranks as the policy does, later.
type slow struct {
	policy.Policy
	perPod time.Duration
}

// Name implements policy.Policy.
func (slow) Name() string { return "slow" }

// Rank implements policy.Policy.
func (s slow) Rank(t policy.Turn) []int64 {
	time.Sleep(s.perPod)
	return s.Policy.Rank(t)
}
