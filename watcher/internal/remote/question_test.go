package remote

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
)

// pair is two replicas behind one name that are fed.
type pair struct {
	running
	cluster  *source
	one, two *scripted
}

func newPair(t *testing.T, one, two *scripted) pair {
	t.Helper()
	return newPairWithin(t, 0, one, two)
}

// newPairWithin is newPair with a limit to one attempt.
func newPairWithin(t *testing.T, limit time.Duration, one, two *scripted) pair {
	t.Helper()
	one.instance, two.instance = "one", "two"
	p := pair{cluster: newSource(node("a")), one: one, two: two}
	p.running = run(t, Config{Deciders: names("pair:///deciders"), Resolvers: behind("pair", one.start(t), two.start(t)), State: p.cluster.get, Timeout: limit})
	p.settled(t, 1)
	return p
}

// key is one whose batches go to the instance.
func (p pair) key(t *testing.T, instance string) string {
	t.Helper()
	for i := range 100 {
		key := fmt.Sprint("key", i)
		if decided, _ := p.askAbout(t, p.cluster, key); decided.Response.GetConfigDigest() == instance {
			return key
		}
	}
	t.Fatalf("no key belongs to %s", instance)
	return ""
}

// metric is the sum of a family's values.
func (r running) metric(t *testing.T, name string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r.Pool)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// hedges are those that were started and won.
func (r running) hedges(t *testing.T) (started, won float64) {
	t.Helper()
	return r.metric(t, "berth_watcher_hedges_total"), r.metric(t, "berth_watcher_hedges_won_total")
}

// gate is a decider's decides that waits while it is shut, and says whom it keeps waiting.
type gate struct {
	mu      sync.Mutex    // guards opened
	opened  chan struct{} // nil while it is open
	arrived chan struct{}
	left    chan error // why those who gave up waiting did
}

func newGate() *gate {
	return &gate{arrived: make(chan struct{}, 100), left: make(chan error, 100)}
}

func (g *gate) shut(t *testing.T) {
	g.mu.Lock()
	g.opened = make(chan struct{})
	g.mu.Unlock()
	t.Cleanup(g.open)
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	if opened == nil {
		return nil
	}
	g.arrived <- struct{}{}
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		g.left <- ctx.Err()
		return ctx.Err()
	}
}

// Equal keys go to one replica while it is free; several batches go to several.
func TestBatchesSpread(t *testing.T) {
	slow := newGate()
	p := newPair(t, &scripted{decides: slow.wait}, &scripted{})
	key := p.key(t, "one")
	for range 3 {
		if decided, _ := p.askAbout(t, p.cluster, key); decided.Response.GetConfigDigest() != "one" {
			t.Errorf("answered by %q", decided.Response.GetConfigDigest())
		}
	}
	slow.shut(t)
	first := make(chan string)
	go func() {
		decided, _ := p.askAbout(t, p.cluster, key)
		first <- decided.Response.GetConfigDigest()
	}()
	<-slow.arrived
	if decided, _ := p.askAbout(t, p.cluster, key); decided.Response.GetConfigDigest() != "two" {
		t.Errorf("answered by %q while the other one is busy", decided.Response.GetConfigDigest())
	}
	slow.open()
	if got := <-first; got != "one" {
		t.Errorf("the first batch was answered by %q", got)
	}
}

// measured makes the pool know how long a batch takes.
func (p pair) measured(t *testing.T) {
	t.Helper()
	for i := range 30 {
		p.askAbout(t, p.cluster, fmt.Sprint("measure", i))
	}
	if _, ok := p.targets[0].hedgeAfter(1); !ok {
		t.Fatal("it is not known how long a batch takes")
	}
}

// A batch that takes longer than others is sent to the other replica, too; who answers
// first is taken, and the other one is told to stop.
func TestHedge(t *testing.T) {
	slow := newGate()
	p := newPair(t, &scripted{decides: slow.wait}, &scripted{})
	p.measured(t)
	key := p.key(t, "one")
	startedBefore, wonBefore := p.hedges(t)
	slow.shut(t)
	if decided, attempts := p.askAbout(t, p.cluster, key); decided.Response.GetConfigDigest() != "two" || attempts != "OK" {
		t.Errorf("answered by %q, %v after %s", decided.Response.GetConfigDigest(), decided.Err, attempts)
	}
	if err := <-slow.left; err == nil {
		t.Error("the loser was not told")
	}
	if started, won := p.hedges(t); started-startedBefore != 1 || won-wonBefore != 1 {
		t.Errorf("counted %v hedges, of which %v were won; want 1 and 1", started-startedBefore, won-wonBefore)
	}
	// Whoever is late again and again is asked no more while another one is there.
	for range 2 {
		p.askAbout(t, p.cluster, key)
	}
	if got := p.metric(t, "berth_watcher_breaker_state"); got != 2 {
		t.Errorf("the sum of breakers' states is %v, want 2: one is open", got)
	}
	for len(slow.arrived) > 0 {
		<-slow.arrived
	}
	p.askAbout(t, p.cluster, key)
	if len(slow.arrived) > 0 {
		t.Error("it was asked all the same")
	}
}

// A hedge that does not answer either is no harm.
func TestHedgeLoses(t *testing.T) {
	one, two := newGate(), newGate()
	p := newPair(t, &scripted{decides: one.wait}, &scripted{decides: two.wait})
	p.measured(t)
	key := p.key(t, "one")
	startedBefore, wonBefore := p.hedges(t)
	one.shut(t)
	two.shut(t)
	go func() {
		<-one.arrived
		<-two.arrived
		one.open()
	}()
	if decided, attempts := p.askAbout(t, p.cluster, key); decided.Response.GetConfigDigest() != "one" || attempts != "OK" {
		t.Errorf("answered by %q, %v after %s", decided.Response.GetConfigDigest(), decided.Err, attempts)
	}
	<-two.left
	if started, won := p.hedges(t); started-startedBefore != 1 || won != wonBefore {
		t.Errorf("counted %v hedges, of which %v were won; want 1 and 0", started-startedBefore, won-wonBefore)
	}
}

// A replica that is not fed gets no hedge: the whole state would have to go there.
func TestNoHedgeInline(t *testing.T) {
	slow := newGate()
	p := newPairWithin(t, 2*time.Second, &scripted{decides: slow.wait}, &scripted{})
	p.measured(t)
	key := p.key(t, "one")
	for _, r := range p.targets[0].all() {
		if described, _ := r.get(); described.GetInstanceId() == "two" {
			r.move(func(p *progress) { *p = progress{} })
		}
	}
	slow.shut(t)
	before := p.metric(t, "berth_watcher_hedges_total")
	if decided, attempts := p.askAbout(t, p.cluster, key); decided.Err == nil || attempts != "DeadlineExceeded" {
		t.Errorf("answered by %q after %s", decided.Response.GetConfigDigest(), attempts)
	}
	if started := p.metric(t, "berth_watcher_hedges_total") - before; started != 0 {
		t.Errorf("counted %v hedges", started)
	}
}

// A replica that fails is passed over for a while, and is asked again if it is the last.
func TestBreaker(t *testing.T) {
	var broken atomic.Bool
	fails := func(context.Context) error {
		if broken.Load() {
			return status.Error(codes.Unavailable, "not now")
		}
		return nil
	}
	p := newPair(t, &scripted{decides: fails}, &scripted{})
	key := p.key(t, "one")
	broken.Store(true)
	var attempts []string
	for range 4 {
		_, ended := p.askAbout(t, p.cluster, key)
		attempts = append(attempts, ended)
	}
	if want := []string{"Unavailable OK", "Unavailable OK", "Unavailable OK", "OK"}; !slices.Equal(attempts, want) {
		t.Errorf("attempts ended with %q, want %q", attempts, want)
	}
	broken.Store(false)
	for answered := ""; answered != "one"; { // the probe, when the pause is over
		decided, _ := p.askAbout(t, p.cluster, key)
		answered = decided.Response.GetConfigDigest()
	}
	if got := p.metric(t, "berth_watcher_breaker_state"); got != 0 {
		t.Errorf("the sum of breakers' states is %v after a success", got)
	}
}

// A serial decider gets one batch at a time, all at one replica, and none twice.
func TestSerial(t *testing.T) {
	var inside, most, asked atomic.Int32
	decides := func(context.Context) error {
		asked.Add(1)
		if n := inside.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer inside.Add(-1)
		runtime.Gosched()
		return nil
	}
	p := newPair(t, &scripted{decides: decides, serial: true}, &scripted{decides: decides, serial: true})
	var mu sync.Mutex // guards by
	by := map[string]int{}
	var wg sync.WaitGroup
	const batches = 40
	for i := range batches {
		wg.Go(func() {
			decided, _ := p.askAbout(t, p.cluster, fmt.Sprint(i))
			mu.Lock()
			defer mu.Unlock()
			by[decided.Response.GetConfigDigest()]++
		})
	}
	wg.Wait()
	if most.Load() != 1 || asked.Load() != batches || len(by) != 1 {
		t.Errorf("%d requests at once, %d in all, answered by %v; want 1, %d and one replica", most.Load(), asked.Load(), by, batches)
	}
}

// How many batches may be outstanding follows the replicas of whoever answers.
func TestCapacity(t *testing.T) {
	one, two, serial := &scripted{instance: "one"}, &scripted{instance: "two"}, &scripted{instance: "serial", serial: true}
	first, second, third := one.start(t), two.start(t), serial.start(t)
	name := manual.NewBuilderWithScheme("capacity")
	told := make(chan map[string]int, 1000)
	look := func(deciders ...*served) {
		var s resolver.State
		for _, d := range deciders {
			s.Addresses = append(s.Addresses, resolver.Address{Addr: d.address})
		}
		name.UpdateState(s)
	}
	name.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: first.address}, {Addr: second.address}}})
	dead := unused(t)
	r := run(t, Config{
		Deciders:  map[string][]string{"many": {dead, "capacity:///deciders"}, "one": {third.address, "capacity:///deciders"}, "none": {dead}},
		Resolvers: []resolver.Builder{name}, State: newSource(node("a")).get,
		Capacity: func(batches map[string]int) { told <- batches },
	})
	want := func(many int) {
		t.Helper()
		want, limit := map[string]int{"many": many, "one": 1, "none": 1}, time.After(20*time.Second)
		for {
			select {
			case got := <-told:
				if maps.Equal(got, want) {
					return
				}
			case <-limit:
				t.Fatalf("%v was never told", want)
			}
		}
	}
	want(2)
	r.wait(t, third.address, "capacity:///deciders")
	look(first)
	want(1)
	look(first, second)
	want(2)
	look(first, second, third) // one of three is serial
	want(1)
	look(first, second)
	want(2)
	second.kill()
	want(1)
}

// A replica that goes from the name answers what it has been asked.
func TestGoesAfterItsBatch(t *testing.T) {
	busy := newGate()
	one, two := &scripted{instance: "one", decides: busy.wait}, &scripted{instance: "two"}
	first, second := one.start(t), two.start(t)
	name := manual.NewBuilderWithScheme("goes")
	name.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: first.address}}})
	cluster := newSource(node("a"))
	r := run(t, Config{Deciders: names("goes:///deciders"), Resolvers: []resolver.Builder{name}, State: cluster.get})
	r.settled(t, 1)
	busy.shut(t)
	answered := make(chan string)
	go func() {
		decided, attempts := r.ask(t, cluster)
		answered <- decided.Response.GetConfigDigest() + " " + attempts
	}()
	<-busy.arrived
	name.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: second.address}}})
	two.until(t, "the other one is fed", func() bool { return two.held != nil })
	r.settled(t, 1)
	busy.open()
	if got := <-answered; got != "one OK" {
		t.Errorf("answered by %s", got)
	}
	one.until(t, "it is not fed any more", func() bool { return one.held == nil })
	if got, _ := r.ask(t, cluster); got.Response.GetConfigDigest() != "two" {
		t.Errorf("then answered by %q, %v", got.Response.GetConfigDigest(), got.Err)
	}
}
