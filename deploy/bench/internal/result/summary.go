package result

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"
)

// The systems that others are compared with: kube-scheduler, and binding without
// a scheduler, with and without Events.
const (
	Stock      = "kube-scheduler"
	Bare       = "bare"
	BareEvents = "bare-events"
)

// Systems are the names of all systems, in the order in which pictures give them
// colours.
var Systems = []string{Bare, BareEvents, Stock, "berth", "berth-2x2"}

// A Stat is what several rounds measured: the median with the lowest and the
// highest. The zero Stat is of no round.
type Stat struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// stat sums up values, of which it leaves out those that are 0: not measured.
func stat(values []float64) Stat {
	values = slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return v == 0 })
	n := len(values)
	if n == 0 {
		return Stat{}
	}
	slices.SortFunc(values, cmp.Compare)
	return Stat{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}
}

// A Summary is one system on one workload over all rounds that count. Ratios
// are of results of the same round.
type Summary struct {
	Workload string `json:"workload"`
	System   string `json:"system"`
	Nodes    int    `json:"nodes"`
	Pods     int    `json:"pods"`
	Rate     int    `json:"rate,omitempty"`
	Placed   int    `json:"placed,omitempty"`
	Runs     int    `json:"runs"`
	Counted  int    `json:"counted"`
	// Problems are those of runs that do not count.
	Problems []string `json:"problems,omitempty"`

	// In pods a second; not for workloads that are no bursts.
	ReadyToLastBind  Stat `json:"readyToLastBindPerSecond"`
	FirstToLastBind  Stat `json:"firstToLastBindPerSecond"`
	ReadyToLastEvent Stat `json:"readyToLastEventPerSecond"`
	// OfStock and OfBare compare FirstToLastBind, OfBareEvents ReadyToLastEvent.
	OfStock      Stat `json:"firstToLastBindOfKubeScheduler"`
	OfBare       Stat `json:"firstToLastBindOfBare"`
	OfBareEvents Stat `json:"readyToLastEventOfBareEvents"`

	// In seconds, from the start of the scheduler's processes.
	StartToReady     Stat `json:"startToReadySeconds"`
	StartToFirstBind Stat `json:"startToFirstBindSeconds"`
	StartToLastBind  Stat `json:"startToLastBindSeconds"`
	// StartOfStock compares StartToFirstBind.
	StartOfStock Stat `json:"startToFirstBindOfKubeScheduler"`

	// In milliseconds a pod: since the scheduler was ready and, for its Life,
	// since its processes were started. Programs has each program's Life.
	CPU       Stat            `json:"cpuMillisecondsPerPod"`
	Life      Stat            `json:"cpuWithStartMillisecondsPerPod"`
	Programs  map[string]Stat `json:"cpuWithStartMillisecondsPerPodByProgram,omitempty"`
	APIServer Stat            `json:"apiserverMillisecondsPerPod"`
	Etcd      Stat            `json:"etcdMillisecondsPerPod"`
	// CPUOfStock and LifeOfStock compare CPU and Life, PeakOfStock Peak.
	CPUOfStock  Stat `json:"cpuOfKubeScheduler"`
	LifeOfStock Stat `json:"cpuWithStartOfKubeScheduler"`
	// Peak is in bytes, the sum of the scheduler's processes.
	Peak        Stat            `json:"peakBytes"`
	Peaks       map[string]Stat `json:"peakBytesByProgram,omitempty"`
	PeakOfStock Stat            `json:"peakOfKubeScheduler"`

	// In seconds.
	CreateP50 Stat `json:"createToBoundP50Seconds"`
	CreateP99 Stat `json:"createToBoundP99Seconds"`
	SeenP50   Stat `json:"seenToBoundP50Seconds"`
	SeenP99   Stat `json:"seenToBoundP99Seconds"`
	RejectP50 Stat `json:"createToRejectedP50Seconds"`
	RejectP99 Stat `json:"createToRejectedP99Seconds"`
	// P50OfBare and P99OfBare compare CreateP50 and CreateP99.
	P50OfBare Stat `json:"createToBoundP50OfBare"`
	P99OfBare Stat `json:"createToBoundP99OfBare"`
	// P50OfBaseline and P99OfBaseline compare them with the same system on the
	// workload without questions.
	P50OfBaseline Stat `json:"createToBoundP50OfBaseline"`
	P99OfBaseline Stat `json:"createToBoundP99OfBaseline"`

	// Questions is how many were answered, the others how long that took, in
	// seconds.
	Questions Stat `json:"questions"`
	AnswerP50 Stat `json:"answerP50Seconds"`
	AnswerP99 Stat `json:"answerP99Seconds"`
}

// burst says whether pods a second tell what the system can do: all of them
// were there when it started, and nothing else that it had to read first.
func (s *Summary) burst() bool { return !s.trickle() && !s.restart() }

// trickle says whether the pods came one by one.
func (s *Summary) trickle() bool { return s.Rate > 0 }

// restart says whether it is the start that was measured.
func (s *Summary) restart() bool { return s.Placed > 0 }

// total is a cost per pod, in milliseconds, as that of all pods, in seconds.
func (s *Summary) total(perPod Stat) Stat {
	all := float64(s.Pods) / 1000
	return Stat{perPod.Median * all, perPod.Low * all, perPod.High * all}
}

// Summarize sums up results by workload and system, in the order of the first
// result of each.
func Summarize(results []Result) []Summary {
	type group struct{ workload, system string }
	var order []group
	groups := map[group][]*Result{}
	for i := range results {
		g := group{results[i].Workload, results[i].System}
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], &results[i])
	}
	// Systems change places from round to round: those of a workload keep the
	// order of its first round, and workloads that of their first result.
	place := map[string]int{}
	for _, g := range order {
		if _, known := place[g.workload]; !known {
			place[g.workload] = len(place)
		}
	}
	slices.SortStableFunc(order, func(a, b group) int { return cmp.Compare(place[a.workload], place[b.workload]) })

	var summaries []Summary
	for _, g := range order {
		against := func(workload, system string) map[int]*Result {
			byRound := map[int]*Result{}
			for _, r := range groups[group{workload, system}] {
				if r.Valid() {
					byRound[r.Round] = r
				}
			}
			return byRound
		}
		w := g.workload
		summaries = append(summaries, summarize(groups[g], against(w, Stock), against(w, Bare), against(w, BareEvents), against(groups[g][0].Baseline, g.system)))
	}
	return summaries
}

// summarize sums up the results of one system on one workload, given by round
// those of the systems and of the workload to compare with.
func summarize(all []*Result, stock, bare, bareEvents, baseline map[int]*Result) Summary {
	last := all[len(all)-1]
	s := Summary{Workload: last.Workload, System: last.System, Nodes: last.Nodes, Pods: last.Pods, Rate: last.Rate, Placed: last.Placed, Runs: len(all)}
	var counted []*Result
	programs := map[string]bool{}
	for _, r := range all {
		if !r.Valid() {
			s.Problems = append(s.Problems, r.Problems...)
			continue
		}
		counted = append(counted, r)
		for program := range r.Processes {
			programs[program] = true
		}
	}
	s.Counted = len(counted)
	of := func(value func(*Result) float64) Stat {
		values := make([]float64, len(counted))
		for i, r := range counted {
			values[i] = value(r)
		}
		return stat(values)
	}
	// ratio is of value to that of the same round of another system.
	ratio := func(to map[int]*Result, value func(*Result) float64) Stat {
		return of(func(r *Result) float64 {
			if to[r.Round] == nil {
				return 0
			}
			return over(value(r), value(to[r.Round]))
		})
	}
	first := func(r *Result) float64 { return r.PerSecond(r.FirstToLastBind) }
	event := func(r *Result) float64 { return r.PerSecond(r.ReadyToLastEvent) }
	if s.burst() {
		s.ReadyToLastBind = of(func(r *Result) float64 { return r.PerSecond(r.ReadyToLastBind) })
		s.FirstToLastBind, s.ReadyToLastEvent = of(first), of(event)
		s.OfStock, s.OfBare, s.OfBareEvents = ratio(stock, first), ratio(bare, first), ratio(bareEvents, event)
	}

	start := func(r *Result) float64 { return r.StartToFirstBind }
	s.StartToReady = of(func(r *Result) float64 { return r.StartToReady })
	s.StartToFirstBind, s.StartOfStock = of(start), ratio(stock, start)
	s.StartToLastBind = of(func(r *Result) float64 { return r.StartToLastBind })

	cpu := func(r *Result) float64 { return r.PerPod(r.Scheduler().Ready) }
	life := func(r *Result) float64 { return r.PerPod(r.Scheduler().Life) }
	peak := func(r *Result) float64 { return float64(r.Scheduler().Peak) }
	s.CPU, s.Life, s.Peak = of(cpu), of(life), of(peak)
	s.CPUOfStock, s.LifeOfStock, s.PeakOfStock = ratio(stock, cpu), ratio(stock, life), ratio(stock, peak)
	s.APIServer = of(func(r *Result) float64 { return r.PerPod(r.APIServer) })
	s.Etcd = of(func(r *Result) float64 { return r.PerPod(r.Etcd) })
	if len(programs) > 0 {
		s.Programs, s.Peaks = map[string]Stat{}, map[string]Stat{}
	}
	for program := range programs {
		s.Programs[program] = of(func(r *Result) float64 { return r.PerPod(r.Processes[program].Life) })
		s.Peaks[program] = of(func(r *Result) float64 { return float64(r.Processes[program].Peak) })
	}

	p50 := func(r *Result) float64 { return r.CreateToBound.P50 }
	p99 := func(r *Result) float64 { return r.CreateToBound.P99 }
	s.CreateP50, s.CreateP99 = of(p50), of(p99)
	s.P50OfBare, s.P99OfBare = ratio(bare, p50), ratio(bare, p99)
	s.P50OfBaseline, s.P99OfBaseline = ratio(baseline, p50), ratio(baseline, p99)
	s.SeenP50 = of(func(r *Result) float64 { return r.SeenToBound.P50 })
	s.SeenP99 = of(func(r *Result) float64 { return r.SeenToBound.P99 })
	s.Questions = of(func(r *Result) float64 { return float64(r.Questions) })
	s.AnswerP50 = of(func(r *Result) float64 { return r.Answer.P50 })
	s.AnswerP99 = of(func(r *Result) float64 { return r.Answer.P99 })
	s.RejectP50 = of(func(r *Result) float64 { return r.CreateToRejected.P50 })
	s.RejectP99 = of(func(r *Result) float64 { return r.CreateToRejected.P99 })
	return s
}

// WriteSummaries writes each summary as a line of JSON.
func WriteSummaries(w io.Writer, summaries []Summary) error {
	encoder := json.NewEncoder(w)
	for _, s := range summaries {
		if err := encoder.Encode(s); err != nil {
			return err
		}
	}
	return nil
}
