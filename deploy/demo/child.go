package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	// stopGrace is how long a child has between SIGTERM and SIGKILL. The local
	// cluster needs most, since it ends four processes of its own.
	stopGrace = 45 * time.Second
	// pollInterval is the time between two looks at something awaited.
	pollInterval = 50 * time.Millisecond
	// tailLines is how much of a log is shown when its program failed.
	tailLines = 15
)

// A family is the processes that one run started. One goroutine uses it.
type family struct {
	bin, dir string // where the programs are, and where their logs go
	starts   chan func()
	children []*child
	ended    chan *child // children that ended, whether they were asked to or not
}

// A child is one of them.
type child struct {
	name    string
	log     string // path
	process *os.Process
	exited  chan struct{} // closed once it is reaped
	err     error         // how it ended; valid after exited
}

// newFamily returns a family without members. Its children are started from one
// operating system thread that lives as long as this program: Linux delivers
// a child's parent-death signal when the thread that forked it ends, and the Go
// runtime ends threads as it likes unless a goroutine is locked to them.
func newFamily(bin, dir string) *family {
	f := &family{bin: bin, dir: dir, starts: make(chan func()), ended: make(chan *child, 64)}
	go func() {
		runtime.LockOSThread() // never unlocked
		for start := range f.starts {
			start()
		}
	}()
	return f
}

// require returns an error if one of the programs is missing.
func (f *family) require(programs ...string) error {
	var missing []string
	for _, p := range programs {
		if _, err := os.Stat(filepath.Join(f.bin, p)); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s has no %s: run make tools build", f.bin, strings.Join(missing, ", "))
	}
	return nil
}

// command prepares one of the programs, without the environment's KUBECONFIG:
// only kubeconfigs that are named on a command line are used.
func (f *family) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(f.bin, program), args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KUBECONFIG=") })
	cmd.SysProcAttr = childAttributes()
	return cmd
}

// start starts a program under a name of its own, which also names its log.
func (f *family) start(name, program string, args ...string) (*child, error) {
	c := &child{name: name, log: filepath.Join(f.dir, name+".log"), exited: make(chan struct{})}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := f.command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := f.onThread(cmd.Start); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c.process = cmd.Process
	f.children = append(f.children, c)
	go func() {
		c.err = cmd.Wait()
		close(c.exited)
		f.ended <- c
	}()
	return c, nil
}

// output runs a program to its end and returns what it printed, its mistakes
// included. It is killed when ctx ends.
func (f *family) output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := f.command(program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := f.onThread(cmd.Start); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	return out.String(), err
}

// onThread runs start on the thread that children are started from.
func (f *family) onThread(start func() error) error {
	result := make(chan error)
	f.starts <- func() { result <- start() }
	return <-result
}

// stop ends all children, the newest first, and returns when they are gone.
func (f *family) stop() {
	for _, c := range slices.Backward(f.children) {
		c.process.Signal(syscall.SIGTERM) // fails only when it is gone already
		select {
		case <-c.exited:
		case <-time.After(stopGrace):
			c.process.Kill()
			<-c.exited
		}
	}
}

// awaitLine blocks until the child's log has a line that begins with prefix,
// and returns the rest of it. It is an error if the child ends first.
func (c *child) awaitLine(ctx context.Context, prefix string) (string, error) {
	for {
		alive := c.alive() // asked before the log is read, since it may say it and end
		data, err := os.ReadFile(c.log)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(data)) {
			if rest, found := strings.CutPrefix(line, prefix); found && strings.HasSuffix(rest, "\n") {
				return strings.TrimSpace(rest), nil
			}
		}
		if !alive {
			return "", c.failure()
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(pollInterval):
		}
	}
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

// failure says that c, which has exited, should not have, and what it said last.
func (c *child) failure() error {
	return fmt.Errorf("%s ended (%s); end of %s:\n%s", c.name, c.how(), c.log, tail(c.log))
}

// how c, which has exited, did so.
func (c *child) how() string {
	if c.err == nil {
		return "exit status 0"
	}
	return c.err.Error()
}

// tail is the last lines of a file, indented.
func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "  " + err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	return "  " + strings.Join(lines, "\n  ")
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
// cluster takes, so that nobody else takes them before a child does, nor while
// a decider is away.
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
