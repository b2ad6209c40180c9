package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// stopGrace is how long a child has between SIGTERM and SIGKILL.
	stopGrace = 20 * time.Second
	// pollInterval is the time between two looks at something awaited. It is
	// short, since the readiness of schedulers is found with it.
	pollInterval = 5 * time.Millisecond
	// tailLines is how much of a log is shown when its program failed.
	tailLines = 15
)

// A spawner starts programs from one operating system thread that lives as long
// as this program: Linux delivers a child's parent-death signal when the thread
// that forked it ends, and the Go runtime ends threads as it likes unless a
// goroutine is locked to them.
type spawner struct {
	bin    string // where the programs are
	starts chan func()
}

func newSpawner(bin string) *spawner {
	s := &spawner{bin: bin, starts: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked
		for start := range s.starts {
			start()
		}
	}()
	return s
}

// A child is a program that was started.
type child struct {
	program string
	log     string // path
	process *os.Process
	exited  chan struct{} // closed once it is reaped
	err     error         // how it ended; valid after exited
}

// start starts a program whose output goes to the file log.
func (s *spawner) start(log, program string, args ...string) (*child, error) {
	return s.run(log, program, s.command(program, args...))
}

// startPolitely starts a program that gets what others leave of the processors,
// where the operating system has a program for that.
func (s *spawner) startPolitely(log, program string, args ...string) (*child, error) {
	cmd := s.command(program, args...)
	if nice, err := exec.LookPath("nice"); err == nil {
		cmd.Args = append([]string{nice, "-n", "19", cmd.Path}, args...)
		cmd.Path = nice
	}
	return s.run(log, program, cmd)
}

func (s *spawner) run(log, program string, cmd *exec.Cmd) (*child, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if err := s.onThread(cmd.Start); err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	c := &child{program: program, log: log, process: cmd.Process, exited: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		close(c.exited)
	}()
	return c, nil
}

// command prepares one of the programs, without the environment's KUBECONFIG:
// only kubeconfigs that are named on a command line are used.
func (s *spawner) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KUBECONFIG=") })
	cmd.SysProcAttr = childAttributes()
	return cmd
}

// output runs a program to its end and returns what it printed to stdout and
// to stderr. It is killed when ctx ends.
func (s *spawner) output(ctx context.Context, program string, args ...string) (stdout, stderr []byte, err error) {
	cmd := s.command(program, args...)
	var out, mistakes bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &mistakes
	if err := s.onThread(cmd.Start); err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	err = cmd.Wait()
	return out.Bytes(), mistakes.Bytes(), err
}

// onThread runs start on the thread that children are started from.
func (s *spawner) onThread(start func() error) error {
	result := make(chan error)
	s.starts <- func() { result <- start() }
	return <-result
}

// stop ends c and returns when it is gone.
func (c *child) stop() {
	c.process.Signal(syscall.SIGTERM) // fails only when it is gone already
	select {
	case <-c.exited:
	case <-time.After(stopGrace):
		c.process.Kill()
		<-c.exited
	}
}

// await polls ready until it returns nil. It is an error if c ends first.
func (c *child) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := poll(ctx, pollInterval, func(ctx context.Context) error {
		if !c.alive() {
			cancel()
			return c.failure()
		}
		return ready(ctx)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", c.program, err)
	}
	return nil
}

// alive says whether c has not ended yet.
func (c *child) alive() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// said returns the rest of the line of c's log that begins with prefix.
func (c *child) said(prefix string) (string, error) {
	data, err := os.ReadFile(c.log)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if rest, found := strings.CutPrefix(line, prefix); found && strings.HasSuffix(rest, "\n") {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", fmt.Errorf("it has not said %q", prefix)
}

// failure says that c, which has exited, should not have, and what it said last.
func (c *child) failure() error {
	how := "exit status 0"
	if c.err != nil {
		how = c.err.Error()
	}
	data, err := os.ReadFile(c.log)
	if err != nil {
		return fmt.Errorf("%s ended (%s); %w", c.program, how, err)
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	return fmt.Errorf("%s ended (%s); end of %s:\n  %s", c.program, how, c.log, strings.Join(lines, "\n  "))
}

// poll calls f at once and then every interval until it returns nil. When ctx
// ends first the error holds both why and f's last one.
func poll(ctx context.Context, interval time.Duration, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(interval):
		}
	}
}

// freeAddresses returns n different loopback addresses where nobody listens.
// Their ports lie below those that kernels hand out to clients and the local
// cluster takes, so that nobody else takes them before a child does.
func freeAddresses(n int) ([]string, error) {
	const low, high = 10000, 20000
	var free []string
	for i, first := 0, os.Getpid()*16; i < high-low && len(free) < n; i++ {
		address := fmt.Sprintf("127.0.0.1:%d", low+(first+i)%(high-low))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		l.Close()
		free = append(free, address)
	}
	if len(free) < n {
		return nil, fmt.Errorf("fewer than %d free ports between %d and %d on 127.0.0.1", n, low, high)
	}
	return free, nil
}
