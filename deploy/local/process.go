package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// readyTimeout bounds how long a component may take to become ready. It is
	// generous because a machine that also compiles is slow.
	readyTimeout = 2 * time.Minute
	// stopGrace is how long a component has between SIGTERM and SIGKILL. The
	// API server uses all of it as long as anybody watches something.
	stopGrace = 3 * time.Second
	// pollInterval is the time between two looks at something awaited.
	pollInterval = 50 * time.Millisecond
	// tailLines is how much of a log is shown when its component failed.
	tailLines = 20
)

// A component is a program to run and how to tell that it works.
type component struct {
	name  string
	args  []string
	ready func(ctx context.Context) error // nil error: ready
}

// A process runs one component: at most one instance at a time, its pid in
// DIR/NAME.pid while it runs, its output appended to DIR/NAME.log.
//
// Callers serialise start, await and stop.
type process struct {
	component
	bin, dir string
	spawn    spawner
	died     func(p *process, err error) // told when a ready instance ends unasked

	mu       sync.Mutex
	instance *instance // nil when not running
}

// An instance is one operating system process.
type instance struct {
	process  *os.Process
	exited   chan struct{} // closed once the process is reaped
	err      error         // how it ended; valid after exited
	watched  bool          // became ready: its end is news. Guarded by process.mu.
	expected bool          // we end it. Guarded by process.mu.
}

// start starts the component.
func (p *process) start() error {
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(p.bin, p.name), p.args...)
	cmd.Dir = p.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = environment(os.Environ(), p.dir)
	cmd.SysProcAttr = processAttributes()
	if err := p.spawn.start(cmd); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	in := &instance{process: cmd.Process, exited: make(chan struct{})}
	p.mu.Lock()
	p.instance = in
	p.mu.Unlock()
	err = os.WriteFile(p.pidFile(), []byte(strconv.Itoa(in.process.Pid)+"\n"), 0o644)
	go p.reap(cmd, in)
	return err
}

// environment is what a component sees of env. etcd and kwok take settings from
// variables with their names, kwok also from a file in the user's home folder;
// the cluster in dir has those of this program alone.
func environment(env []string, dir string) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(v, "ETCD_") && !strings.HasPrefix(v, "KWOK_") {
			kept = append(kept, v)
		}
	}
	return append(kept, "KWOK_WORKDIR="+filepath.Join(dir, "kwok"))
}

// reap waits for the end of in and reports it if nobody asked for it.
func (p *process) reap(cmd *exec.Cmd, in *instance) {
	in.err = cmd.Wait()
	if in.err == nil {
		in.err = errors.New("exit status 0")
	}
	p.mu.Lock()
	os.Remove(p.pidFile()) // under the lock, so that it is never a successor's
	p.instance = nil
	news := in.watched && !in.expected
	p.mu.Unlock()
	close(in.exited)
	if news {
		p.died(p, in.err)
	}
}

// await blocks until the component is ready and returns an error with the tail
// of its log if it ends first or takes longer than readyTimeout.
func (p *process) await(ctx context.Context) error {
	p.mu.Lock()
	in := p.instance
	p.mu.Unlock()
	if in == nil {
		return fmt.Errorf("%s ended at once; end of %s:\n%s", p.name, p.logFile(), p.tail())
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	go func() { // stop polling when the process ends
		select {
		case <-in.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := poll(ctx, pollInterval, p.ready)

	p.mu.Lock()
	in.watched = err == nil
	alive := p.instance == in
	p.mu.Unlock()
	switch {
	case !alive:
		return fmt.Errorf("%s ended before it was ready (%v); end of %s:\n%s", p.name, in.err, p.logFile(), p.tail())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s is not ready after %s (%v); end of %s:\n%s", p.name, readyTimeout, err, p.logFile(), p.tail())
	}
	return err
}

// stop ends the component with SIGTERM, after grace with SIGKILL (at once when
// grace is 0), and returns when it is gone. It returns the pid, 0 if the
// component was not running.
func (p *process) stop(grace time.Duration) int {
	p.mu.Lock()
	in := p.instance
	if in == nil {
		p.mu.Unlock()
		return 0
	}
	in.expected = true
	p.mu.Unlock()

	// Signal fails only when the process is gone already.
	if grace > 0 {
		in.process.Signal(syscall.SIGTERM)
		select {
		case <-in.exited:
			return in.process.Pid
		case <-time.After(grace):
		}
	}
	in.process.Signal(syscall.SIGKILL)
	<-in.exited
	return in.process.Pid
}

func (p *process) pidFile() string { return filepath.Join(p.dir, p.name+".pid") }
func (p *process) logFile() string { return filepath.Join(p.dir, p.name+".log") }

// tail is the last lines of the log, indented.
func (p *process) tail() string {
	data, err := os.ReadFile(p.logFile())
	if err != nil {
		return "  " + err.Error()
	}
	return lastLines(data, tailLines)
}

// lastLines returns the last n lines of data, indented by two spaces.
func lastLines(data []byte, n int) string {
	lines := strings.Split(string(bytes.TrimRight(data, "\n")), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return "  " + strings.Join(lines, "\n  ")
}

// poll calls f at once and then every interval until it returns nil. When ctx
// ends first the error holds both ctx's and f's last one.
func poll(ctx context.Context, interval time.Duration, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(interval):
		}
	}
}

// A spawner starts processes from one operating system thread that lives as
// long as this program. Linux delivers a child's parent-death signal when the
// thread that forked it ends, not the process, and the Go runtime ends threads
// as it likes unless a goroutine is locked to them.
type spawner struct{ starts chan func() }

func newSpawner() spawner {
	s := spawner{make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked
		for start := range s.starts {
			start()
		}
	}()
	return s
}

func (s spawner) start(cmd *exec.Cmd) error {
	result := make(chan error)
	s.starts <- func() { result <- cmd.Start() }
	return <-result
}
