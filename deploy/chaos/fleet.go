package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/berth-scheduler/berth/deploy/chaos/internal/proxy"
	"github.com/berth-scheduler/berth/deploy/internal/child"
)

// afterEnd is how long a process that ended by itself stays away.
const afterEnd = time.Second

// A member is a watcher or a decider: a process that is started again whenever it ends.
type member struct {
	name, program string
	args          []string
	metrics       string // address; empty for deciders
	fleet         *fleet

	mu      sync.Mutex // guards what follows
	child   *child.Child
	started int
	away    time.Duration // how long it stays away once it has ended
	killed  bool          // it was us who ended it
}

// An ending is a process that ended and was not killed.
type ending struct {
	Name string `json:"name"`
	How  string `json:"how"`
	Log  string `json:"log"`
	// Last is the last line of its log, Crashed whether it is one of a process that
	// fell over.
	Last    string `json:"last"`
	Crashed bool   `json:"crashed"`
}

// A fleet is the watchers, the deciders and the proxies between them and the rest.
type fleet struct {
	spawner  *child.Spawner
	dir      string // where their logs go
	watchers []*member
	deciders []*member
	links    []*proxy.Proxy // the deciders', then the watchers' to the API server
	names    []string       // of the links
	failed   func(error)    // told when a process cannot be started
	wg       sync.WaitGroup // a goroutine for each member
	stop     context.CancelFunc

	mu      sync.Mutex // guards what follows
	endings []ending
}

// startFleet starts the deciders, the watchers and their proxies.
func startFleet(ctx context.Context, s *child.Spawner, c *cluster, dir string, deciders int, failed func(error)) (*fleet, error) {
	free, err := child.FreeAddresses(2*deciders + 2*watchers)
	if err != nil {
		return nil, err
	}
	take := func() string {
		address := free[0]
		free = free[1:]
		return address
	}
	server, err := c.server()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	f := &fleet{spawner: s, dir: dir, failed: failed, stop: stop}
	link := func(name, target string) (string, error) {
		p, err := proxy.Listen(take(), target)
		if err != nil {
			return "", err
		}
		f.links, f.names = append(f.links, p), append(f.names, name)
		return p.Address(), nil
	}
	args := []string{"--scheduler-name=berth", "-v=2"}
	for i := range deciders {
		name, address := fmt.Sprintf("decider-%d", i+1), take()
		f.deciders = append(f.deciders, &member{name: name, program: "decider", fleet: f, args: []string{"--listen=" + address, "--metrics-listen="}})
		through, err := link("watchers to "+name, address)
		if err != nil {
			f.end()
			return nil, err
		}
		args = append(args, "--decider="+through)
	}
	for i := range watchers {
		name, metrics := fmt.Sprintf("watcher-%d", i+1), take()
		through, err := link(name+" to API server", server)
		kubeconfig := filepath.Join(dir, name+".kubeconfig")
		if err == nil {
			err = c.kubeconfigFor(through, kubeconfig)
		}
		if err != nil {
			f.end()
			return nil, err
		}
		f.watchers = append(f.watchers, &member{name: name, program: "watcher", fleet: f, metrics: metrics,
			args: append([]string{"--kubeconfig=" + kubeconfig, "--metrics-listen=" + metrics}, args...)})
	}
	for _, m := range append(f.deciders[:deciders:deciders], f.watchers...) {
		if err := m.start(); err != nil {
			f.end()
			return nil, err
		}
		f.wg.Go(func() { m.keep(ctx) })
	}
	return f, nil
}

// end ends everything and returns when it is gone.
func (f *fleet) end() {
	f.stop()
	f.wg.Wait()
	for _, p := range f.links {
		p.Close()
	}
}

// start starts the process; each has a log of its own.
func (m *member) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	log := filepath.Join(m.fleet.dir, fmt.Sprintf("%s-%03d.log", m.name, m.started))
	c, err := m.fleet.spawner.Start(m.name, log, m.fleet.spawner.Command(m.program, m.args...))
	if err != nil {
		return err
	}
	m.child, m.killed, m.away = c, false, afterEnd
	m.started++
	return nil
}

// keep starts the process again whenever it has ended, until ctx ends, and ends it then.
func (m *member) keep(ctx context.Context) {
	for {
		c := m.process()
		select {
		case <-ctx.Done():
			c.Stop(stopGrace)
			return
		case <-c.Exited():
		}
		m.mu.Lock()
		killed, away := m.killed, m.away
		m.mu.Unlock()
		if !killed {
			m.fleet.ended(c)
		}
		if pause(ctx, away); ctx.Err() != nil {
			return
		}
		if err := m.start(); err != nil {
			m.fleet.failed(err)
			return
		}
	}
}

func (m *member) process() *child.Child {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.child
}

// kill kills the process, which is away for d then. It says whether it was there.
func (m *member) kill(d time.Duration) bool {
	m.mu.Lock()
	c := m.child
	alive := c.Alive()
	if alive {
		m.killed, m.away = true, d
	}
	m.mu.Unlock()
	if alive {
		c.Kill()
	}
	return alive
}

// ended records that a process ended by itself.
func (f *fleet) ended(c *child.Child) {
	e := ending{Name: c.Name, How: c.How(), Log: c.Log}
	if data, err := os.ReadFile(c.Log); err == nil {
		text := strings.TrimSpace(string(data))
		e.Last = text[strings.LastIndexByte(text, '\n')+1:]
		e.Crashed = strings.Contains(text, "\npanic: ") || strings.Contains(text, "\nfatal error: ") || strings.Contains(text, "Observed a panic")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endings = append(f.endings, e)
}

// unasked are the processes that ended by themselves so far.
func (f *fleet) unasked() []ending {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]ending(nil), f.endings...)
}

// watcherOf is the watcher that a process is; nil if it is none, or none any more.
func (f *fleet) watcherOf(pid int) *member {
	for _, m := range f.watchers {
		if c := m.process(); c.PID == pid && c.Alive() {
			return m
		}
	}
	return nil
}

// busy says what a watcher still has to do; empty is nothing. Pods that wait for the
// cluster to change do not count.
func (m *member) busy(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.metrics+"/metrics", nil)
	if err != nil {
		return err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	gauges := map[string]string{
		`scheduler_pending_pods{queue="active"}`:  "pods to decide",
		`scheduler_pending_pods{queue="backoff"}`: "pods in backoff",
		`berth_watcher_binding_pods`:              "pods to bind",
	}
	var busy []string
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if what, wanted := gauges[name]; wanted {
			delete(gauges, name)
			if value != "0" {
				busy = append(busy, value+" "+what)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err.Error()
	}
	for name := range gauges {
		busy = append(busy, "it has no "+name)
	}
	return strings.Join(busy, ", ")
}
