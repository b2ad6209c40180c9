package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/berth-scheduler/berth/deploy/bench/decide/internal/workload"
)

type costsOptions struct {
	limits
	solvers, kinds  []string
	nodes, classes  []int
	full            []float64
	upstreamNodes   int
	jsonTo, drawnTo string
}

func costsFlags(flags *flag.FlagSet) *costsOptions {
	o := &costsOptions{
		solvers: []string{plain, indexed, upstream}, kinds: kindNames(),
		nodes: []int{1000, 5000, 50_000, 1_000_000}, classes: []int{1, 100, 1000}, full: []float64{0, 0.5, 0.95},
	}
	flags.Var(list[string]{&o.solvers, among([]string{plain, indexed, upstream})}, "solvers", "")
	flags.Var(list[string]{&o.kinds, among(append(kindNames(), "none"))}, "kinds", "")
	flags.Var(list[int]{&o.nodes, positive}, "nodes", "")
	flags.Var(list[int]{&o.classes, positive}, "classes", "")
	flags.Var(list[float64]{&o.full, part}, "full", "")
	flags.DurationVar(&o.seconds, "seconds", time.Second, "")
	flags.DurationVar(&o.decision, "limit", 20*time.Second, "")
	flags.IntVar(&o.batch, "batch", 1000, "")
	flags.IntVar(&o.upstreamNodes, "upstream-nodes", 50_000, "")
	flags.StringVar(&o.jsonTo, "json", "", "")
	flags.StringVar(&o.drawnTo, "plot", "", "")
	return o
}

// Costs are what a run without a command measured.
type Costs struct {
	Feedings     []*Feeding     `json:"feedings"`
	Measurements []*Measurement `json:"measurements"`
}

// costs measures every case on every state with every solver, and prints them.
func costs(ctx context.Context, start starter, o *costsOptions, out, progress io.Writer) error {
	all := &Costs{}
	for _, nodes := range o.nodes {
		for _, full := range o.full {
			for _, solver := range o.inOrder() {
				if err := all.measure(ctx, start, solver, &workload.Cluster{Nodes: nodes, Full: full}, o, progress); err != nil {
					return fmt.Errorf("%s on %d nodes, %.0f %% full: %w", solver, nodes, 100*full, err)
				}
			}
		}
	}
	fmt.Fprint(out, all.table())
	if o.jsonTo != "" {
		if err := writeJSON(o.jsonTo, all); err != nil {
			return err
		}
	}
	if o.drawnTo != "" {
		if err := all.draw(o.drawnTo); err != nil {
			return err
		}
	}
	return all.verdict()
}

// inOrder are the solvers with plain first, with which the others are compared.
func (o *costsOptions) inOrder() []string {
	var solvers []string
	for _, name := range []string{plain, indexed, upstream} {
		if slices.Contains(o.solvers, name) {
			solvers = append(solvers, name)
		}
	}
	return solvers
}

// cases are those that are measured on nodes that are so full.
func (o *costsOptions) cases(c *workload.Cluster) []Case {
	var cases []Case
	for _, classes := range o.classes {
		cases = append(cases, Case{Kind: "plain", Classes: classes})
	}
	for _, classes := range o.classes {
		cases = append(cases, Case{Kind: "plain", Classes: classes, TooBig: true})
	}
	if c.Full != 0.5 && len(o.full) > 1 {
		return cases
	}
	for _, name := range o.kinds {
		switch name {
		case "none", "plain":
		case mixed:
			cases = append(cases, Case{Kind: mixed, InterPod: true, Classes: len(workload.Mixed())})
		default:
			k := workload.KindNamed(c, name)
			cases = append(cases, Case{Kind: name, InterPod: k.InterPod, Classes: 1}, Case{Kind: name, InterPod: k.InterPod, Classes: 1, TooBig: true})
		}
	}
	return cases
}

// measure measures all cases on one cluster with one solver.
func (a *Costs) measure(ctx context.Context, start starter, solver string, c *workload.Cluster, o *costsOptions, progress io.Writer) error {
	if solver == upstream && c.Nodes > o.upstreamNodes {
		a.skip(solver, c, o.cases(c), fmt.Sprintf("more than --upstream-nodes %d", o.upstreamNodes))
		return nil
	}
	d, err := start(ctx, solver)
	if err != nil {
		return err
	}
	defer d.stop()
	s, f, err := open(ctx, d, c)
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "%s, %d nodes, %.0f %% full: fed %s in %s; a request without pods takes %s\n",
		solver, c.Nodes, 100*c.Full, size(f.Bytes), seconds(f.FullTime), f.Empty.Round(time.Microsecond))
	if err := s.delta(f, o.batch); err != nil {
		return err
	}
	for _, kind := range o.cases(c) {
		m, err := s.measure(ctx, kind, o.limits, f)
		if err != nil {
			return fmt.Errorf("%v: %w", kind, err)
		}
		a.judge(m)
		a.Measurements = append(a.Measurements, m)
		fmt.Fprintln(progress, " ", m)
	}
	f.Peak = d.peak()
	a.Feedings = append(a.Feedings, f)
	return nil
}

// skip notes that nothing is measured there.
func (a *Costs) skip(solver string, c *workload.Cluster, cases []Case, why string) {
	state := State{c.Nodes, c.Full}
	a.Feedings = append(a.Feedings, &Feeding{State: state, Solver: solver, Skipped: why})
	for _, kind := range cases {
		a.Measurements = append(a.Measurements, &Measurement{State: state, Case: kind, Solver: solver, Skipped: why})
	}
}

// judge compares what m answered first with what the plain solver did.
func (a *Costs) judge(m *Measurement) {
	if m.Solver == plain || m.Skipped != "" || m.Answer == Differs {
		return
	}
	if reference := a.find(m.State, m.Case, plain); reference != nil && reference.first != nil {
		m.Answer, m.Why = compare(reference.first, m.first)
	}
}

// find returns what a solver was measured to do; nil if it was not.
func (a *Costs) find(s State, c Case, solver string) *Measurement {
	for _, m := range a.Measurements {
		if m.State == s && m.Case == c && m.Solver == solver {
			return m
		}
	}
	return nil
}

// verdict is an error if answers differed.
func (a *Costs) verdict() error {
	for _, m := range a.Measurements {
		if m.Answer == Differs {
			return fmt.Errorf("answers differ: %s, %d nodes, %.0f %% full, %v: %s", m.Solver, m.Nodes, 100*m.Full, m.Case, m.Why)
		}
	}
	return nil
}

// writeJSON writes what was measured for programs.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o666)
}
