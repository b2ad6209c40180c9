// Decider answers over gRPC which node each pod should get. It needs no cluster,
// no credentials and no disk.
//
// Reading order: this file (what decides), process (flags, listening, draining),
// service.Decide (decode, solve, encode), service.Sync (the state that requests refer
// to), internal/solve (one decision after another), internal/index (the same, faster),
// internal/filter and internal/score (the rules), internal/preempt (whom to evict),
// internal/model (what they look at), policy (what can be swapped) and internal/profile
// (rules and scores as a file configures them).
// docs/contract.md is for those who write a decider of their own.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/process"
	"github.com/berth-scheduler/berth/decider/service"
	"github.com/berth-scheduler/berth/proto/config"
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	program.Main()
}

// collectAt is how much garbage, in percent of what is in use, makes Go collect it: less
// than the usual 100, for what a decider holds is the cluster, and it makes little garbage.
const collectAt = 70

var program = process.Program{
	Name:    "decider",
	Purpose: "decider answers over gRPC which node each pod should get.",
	Flags: func(flags *flag.FlagSet) process.Configure {
		file := flags.String("config", "", "`file` with a KubeSchedulerConfiguration, whose profiles say which rules apply to which scheduler name; empty means kube-scheduler's default profile for every one")
		name := flags.String("policy", "default", "which of the nodes that can take a pod it gets: default, first or random")
		solver := flags.String("solver", "indexed", "indexed, or plain to look at every node for every pod; the answers are the same")
		return func(context.Context) (service.Config, []any, error) {
			p, err := policy.Named(*name)
			if err != nil {
				return service.Config{}, nil, process.UsageError{Err: err}
			}
			profiles, err := readProfiles(*file)
			if err != nil {
				return service.Config{}, nil, process.UsageError{Err: err}
			}
			if *solver != "indexed" && *solver != "plain" {
				return service.Config{}, nil, process.UsageError{Err: fmt.Errorf("--solver %q is neither indexed nor plain", *solver)}
			}
			about := []any{"policy", p.Name(), "profiles", schedulerNames(profiles), "solver", *solver}
			return service.Config{Policy: p, Profiles: profiles, PlainSolver: *solver == "plain"}, about, nil
		}
	},
}

// readProfiles reads the profiles of a configuration file; an empty name gives
// none.
func readProfiles(file string) ([]config.Profile, error) {
	if file == "" {
		return nil, nil
	}
	c, err := config.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return c.Profiles, nil
}

// schedulerNames are the names of the profiles, for people.
func schedulerNames(profiles []config.Profile) []string {
	names := []string{}
	for _, p := range profiles {
		names = append(names, p.SchedulerName)
	}
	return names
}
