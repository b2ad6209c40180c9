package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-scheduler/berth/deploy/bench/internal/result"
	"github.com/berth-scheduler/berth/deploy/bench/internal/timeline"
	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
	"github.com/berth-scheduler/berth/deploy/internal/child"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

const (
	// stallTimeout is how long a run may go on without a pod being bound or
	// told of before it is given up.
	stallTimeout = time.Minute
	// turnTime is how often a churn makes a turn; what a turn created is deleted
	// turnsKept turns later.
	turnTime  = 200 * time.Millisecond
	turnsKept = 5
	// answerTimeout is how long a decider may take for a question.
	answerTimeout = 10 * time.Second
	// sentinel is the last pod of a recording; no scheduler feels responsible
	// for it.
	sentinel = "bench-end"
)

// A trial is one run: one system on one workload, once.
type trial struct {
	spawner *child.Spawner
	cluster *cluster
	probe   *http.Client
	dir     string // for its logs and recording

	workload workload.Workload
	system   system
	objects  workload.Objects
	blank    result.Result // what is known of the result beforehand

	// warm, if set, is called when the system is ready, and the pods are created after it
	// has returned; else they are there before the system is started.
	warm func(ctx context.Context) error
	// beside, if set, runs while the pods are scheduled, until it is done.
	beside func(ctx context.Context) error
	// settled, if set, is called when all is done, before the system ends.
	settled func(ctx context.Context) error

	timeline  *timeline.Timeline
	children  []*child.Child
	programs  []program    // of the children
	killed    atomic.Int64 // the PID of the child that beside has killed, if any
	violated  bool         // the judge found something wrong
	decider   string       // address of the first of them that decides
	answers   []time.Duration
	recorder  *child.Child
	auditFrom int64 // where the run's part of the audit log begins
}

// measure is a run from beginning to end: the objects are created, the system is
// started, everything is awaited, judged and removed. An error means that the
// run could not be made; one that was made and does not count has problems.
func (t *trial) measure(ctx context.Context) (res result.Result, err error) {
	res = t.blank
	interrupted, cleaned := ctx, false
	defer func() {
		if !cleaned && interrupted.Err() == nil { // or else the cluster goes, with all in it
			err = errors.Join(err, t.cluster.clean(interrupted))
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the watches
	t.timeline = timeline.New(t.objects.Pods, t.system.events)
	log, err := os.Stat(t.cluster.auditLog())
	if err != nil {
		return res, err
	}
	t.auditFrom = log.Size()
	if err := t.cluster.createServices(ctx, t.objects.Services); err != nil {
		return res, err
	}
	var created []*corev1.Pod
	if t.workload.Rate == 0 && t.warm == nil {
		if created, err = t.cluster.createPods(ctx, t.objects.Pods, t.timeline); err != nil {
			return res, err
		}
	}
	if err := t.record(ctx); err != nil {
		return res, err
	}
	defer t.recorder.Stop(stopGrace)
	if err := t.cluster.follow(ctx, t.timeline); err != nil {
		return res, err
	}

	defer t.stop()
	if err := t.start(ctx); err != nil {
		return res, err
	}
	if t.warm != nil {
		if err := t.warm(ctx); err != nil {
			return res, err
		}
	}
	t.timeline.Ready(time.Now())
	before, err := t.sample()
	if err != nil {
		return res, err
	}
	if err := t.schedule(ctx, created); err != nil {
		return res, err
	}
	after, err := t.sample()
	if err != nil {
		return res, err
	}
	if t.settled != nil {
		if err := t.settled(ctx); err != nil {
			return res, err
		}
	}
	t.stop()

	res = t.result(before, after)
	if err := t.seal(ctx); err != nil {
		return res, err
	}
	// The judge reads files alone: what they tell of can go meanwhile.
	var wg sync.WaitGroup
	var problems []string
	wg.Go(func() { problems = t.judge(ctx) })
	err, cleaned = t.cluster.clean(ctx), true
	wg.Wait()
	res.Problems = append(res.Problems, problems...)
	return res, err
}

// record starts the recorder and returns when it records. It gets the
// processors' spare time only: what it does is no part of the measurement.
func (t *trial) record(ctx context.Context) (err error) {
	t.recorder, err = t.spawner.Start("check", filepath.Join(t.dir, "record.log"), child.Polite(t.spawner.Command("check",
		"record", "--kubeconfig", t.cluster.kubeconfig, "--out", t.recording())))
	if err != nil {
		return err
	}
	return await(ctx, t.recorder, func(context.Context) error {
		_, err := t.recorder.Said("recording from ")
		return err
	})
}

func (t *trial) recording() string { return filepath.Join(t.dir, "recording.jsonl") }

// start starts the system's programs, if any, and returns when all are ready.
func (t *trial) start(ctx context.Context) error {
	if t.system.programs == nil {
		return nil
	}
	programs, err := t.system.programs(ctx, t.cluster)
	if err != nil {
		return err
	}
	t.timeline.Started(time.Now())
	for i, p := range programs {
		c, err := t.spawner.Start(p.name, filepath.Join(t.dir, fmt.Sprintf("%s-%d.log", p.name, i)), t.spawner.Command(p.name, p.args...))
		if err != nil {
			return err
		}
		t.children, t.programs = append(t.children, c), append(t.programs, p)
		t.decider = cmp.Or(t.decider, p.grpc)
	}
	for i, p := range programs {
		err := await(ctx, t.children[i], func(ctx context.Context) error { return ask(ctx, t.probe, p.ready) })
		if err != nil {
			return err
		}
	}
	return nil
}

// stop ends the system's programs.
func (t *trial) stop() {
	for _, c := range t.children {
		c.Stop(stopGrace)
	}
	t.children = nil
}

// schedule does what is to be done while the system works and returns when all
// is done or nothing has happened for long.
func (t *trial) schedule(ctx context.Context, created []*corev1.Pod) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	work := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				cancel(err)
			}
		})
	}
	binder := binder{t.cluster.client, t.system.events}
	switch {
	case t.workload.Rate > 0:
		work(func() error { return t.trickle(ctx, binder) })
	case t.warm != nil:
		work(func() error {
			_, err := t.cluster.createPods(ctx, t.objects.Pods, t.timeline)
			return err
		})
	case t.system.programs == nil:
		work(func() error {
			return inOrder(ctx, created, func(i int, p *corev1.Pod) error { return binder.place(ctx, t.objects.Pods[i], p) })
		})
	}
	settled := make(chan struct{})
	if t.workload.Churn {
		work(func() error { return t.churn(ctx, settled) })
	}
	if t.workload.Questions > 0 {
		work(func() error { return t.inquire(ctx, settled) })
	}
	if t.beside != nil {
		work(func() error { return t.beside(ctx) })
	}
	err := t.await(ctx)
	if err != nil {
		cancel(err)
	}
	close(settled)
	wg.Wait() // a watch may show what a request did before the request is answered
	return context.Cause(ctx)
}

// await returns when the timeline is settled or has not moved for long, which is
// a problem of the timeline's and no error.
func (t *trial) await(ctx context.Context) error {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.timeline.Settled():
			return nil
		case <-look.C:
		}
		for _, c := range t.children {
			if !c.Alive() && int64(c.PID) != t.killed.Load() {
				return c.Failure()
			}
		}
		if _, _, last := t.timeline.Progress(); time.Since(last) > stallTimeout {
			return nil
		}
	}
}

// trickle creates the pods at the workload's rate. Where no scheduler runs, each
// is bound the moment its creation is answered.
func (t *trial) trickle(ctx context.Context, b binder) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tick := time.NewTicker(time.Second / time.Duration(t.workload.Rate))
	defer tick.Stop()
	var wg sync.WaitGroup
	for _, p := range t.objects.Pods {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			created, err := t.cluster.createPod(ctx, p.Object, t.timeline)
			if err == nil && t.system.programs == nil {
				err = b.place(ctx, p, created)
			}
			if err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// churn makes turns until settled is closed, and leaves nothing behind.
func (t *trial) churn(ctx context.Context, settled <-chan struct{}) error {
	tick := time.NewTicker(turnTime)
	defer tick.Stop()
	var turns []workload.Turn
	for i := 0; ; i++ {
		turn := workload.NewTurn(i, t.system.scheduler)
		if err := t.cluster.createTurn(ctx, turn); err != nil {
			return err
		}
		if turns = append(turns, turn); len(turns) > turnsKept {
			if err := t.cluster.deleteTurn(ctx, turns[0]); err != nil {
				return err
			}
			turns = turns[1:]
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-settled:
			for _, turn := range turns {
				if err := t.cluster.deleteTurn(ctx, turn); err != nil {
					return err
				}
			}
			return nil
		case <-tick.C:
		}
	}
}

// inquire asks the decider at the workload's rate until settled is closed. A
// question is asked when the one before is answered, and no earlier.
func (t *trial) inquire(ctx context.Context, settled <-chan struct{}) error {
	conn, err := grpc.NewClient(t.decider, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	decider, question := berthv1.NewDeciderServiceClient(conn), workload.Question()
	ask := func() error {
		ctx, cancel := context.WithTimeout(ctx, answerTimeout)
		defer cancel()
		began := time.Now()
		answer, err := decider.Decide(ctx, question)
		if err != nil {
			return err
		}
		t.answers = append(t.answers, time.Since(began))
		return workload.CheckAnswer(answer)
	}
	tick := time.NewTicker(time.Second / time.Duration(t.workload.Questions))
	defer tick.Stop()
	for {
		if err := ask(); err != nil {
			return fmt.Errorf("asking the decider at %s: %w", t.decider, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-settled:
			return nil
		case <-tick.C:
		}
	}
}

// A usage is what all processes had used at one moment.
type usage struct {
	apiserver, etcd float64
	children        []float64
	peaks           []int64
}

func (t *trial) sample() (u usage, err error) {
	for _, component := range []struct {
		name string
		cpu  *float64
	}{{"kube-apiserver", &u.apiserver}, {"etcd", &u.etcd}} {
		pid, err := t.cluster.pid(component.name)
		if err != nil {
			return u, err
		}
		if *component.cpu, err = cpuSeconds(pid); err != nil {
			return u, err
		}
	}
	for _, c := range t.children {
		cpu, err := cpuSeconds(c.PID)
		if err != nil {
			return u, err
		}
		peak, err := peakBytes(c.PID)
		if err != nil {
			return u, err
		}
		u.children, u.peaks = append(u.children, cpu), append(u.peaks, peak)
	}
	return u, nil
}

// result sums up the timeline and what was used between two samples. It is
// called after the children have ended.
func (t *trial) result(before, after usage) result.Result {
	f := t.timeline.Figures()
	quantiles := func(q timeline.Quantiles) result.Quantiles {
		return result.Quantiles{P50: q.P50.Seconds(), P99: q.P99.Seconds()}
	}
	res := t.blank
	res.Problems = t.timeline.Problems()
	res.Bound, res.Rejected = f.Bound, f.Rejected
	res.ReadyToLastBind, res.FirstToLastBind = f.ReadyToLast.Seconds(), f.FirstToLast.Seconds()
	res.ReadyToLastEvent, res.FirstToLastEvent = f.ReadyToTold.Seconds(), f.FirstToTold.Seconds()
	res.StartToReady, res.StartToFirstBind, res.StartToLastBind = f.StartToReady.Seconds(), f.StartToFirst.Seconds(), f.StartToLast.Seconds()
	res.CreateToBound, res.SeenToBound, res.CreateToRejected = quantiles(f.Bind), quantiles(f.Watch), quantiles(f.Reject)
	res.Questions, res.Answer = len(t.answers), quantiles(timeline.NewQuantiles(t.answers))
	res.APIServer, res.Etcd = after.apiserver-before.apiserver, after.etcd-before.etcd
	res.Processes = map[string]result.Process{}
	for i, program := range t.programs {
		p := res.Processes[program.name]
		p.Life += after.children[i]
		p.Ready += after.children[i] - before.children[i]
		p.Peak += after.peaks[i]
		res.Processes[program.name] = p
	}
	return res
}

// seal completes what the run is judged by: the recording, and its part of the
// audit log. The recorder has seen everything once it has seen a pod that is
// created now.
func (t *trial) seal(ctx context.Context) error {
	end := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: workload.Namespace, Name: sentinel},
		Spec:       corev1.PodSpec{SchedulerName: "none", Containers: []corev1.Container{{Name: "pause", Image: "pause"}}},
	}
	if _, err := t.cluster.client.CoreV1().Pods(end.Namespace).Create(ctx, end, metav1.CreateOptions{}); err != nil {
		return err
	}
	seen := follower{path: t.recording(), text: []byte(`"name":"` + sentinel + `"`)}
	if err := await(ctx, t.recorder, func(context.Context) error { return seen.look() }); err != nil {
		return err
	}
	t.recorder.Stop(stopGrace)
	return copyFrom(t.cluster.auditLog(), t.auditFrom, t.audit())
}

// audit is where the run's part of the audit log is.
func (t *trial) audit() string { return filepath.Join(t.dir, "audit.log") }

// judge lets bin/check judge the run and returns what it found.
func (t *trial) judge(ctx context.Context) []string {
	cmd := t.spawner.Command("check", "replay", "--record", t.recording(), "--audit-log", t.audit(),
		"--scheduler-name", t.system.scheduler, "--output", "json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := t.spawner.Run(ctx, cmd)
	violated, problems := verdict(stdout.Bytes(), stderr.Bytes(), err)
	t.violated = violated
	return problems
}

// verdict is what keeps a run from counting according to what bin/check printed
// and how it ended, and whether a rule was violated.
func verdict(stdout, stderr []byte, exit error) (violated bool, problems []string) {
	if exit == nil {
		return false, nil
	}
	var report struct {
		Violations []struct{ Rule, Pod, Node, Detail string }
		Incomplete []string
	}
	if err := json.Unmarshal(stdout, &report); err != nil {
		return false, []string{fmt.Sprintf("check: %v: %s", exit, bytes.TrimSpace(stderr))}
	}
	if n := len(report.Violations); n > 0 {
		v := report.Violations[0]
		problems = append(problems, fmt.Sprintf("check: %d violations, the first: %s %s %s %s", n, v.Rule, v.Pod, v.Node, v.Detail))
	}
	for _, sentence := range report.Incomplete {
		problems = append(problems, "check: "+sentence)
	}
	if problems == nil {
		problems = []string{fmt.Sprintf("check: %v", exit)}
	}
	return len(report.Violations) > 0, problems
}

// A follower looks for a text in a file that grows.
type follower struct {
	path string
	text []byte
	from int64
}

// look returns nil once the text is in the file.
func (f *follower) look() error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(f.from, io.SeekStart); err != nil {
		return err
	}
	data, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	if bytes.Contains(data, f.text) {
		return nil
	}
	// The text may have been written in part.
	f.from += int64(max(0, len(data)-len(f.text)))
	return fmt.Errorf("%s does not have %s yet", f.path, f.text)
}

// copyFrom copies what a file holds from an offset on to another file.
func copyFrom(path string, offset int64, to string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := in.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
