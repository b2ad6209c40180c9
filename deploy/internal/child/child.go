// Package child is the processes that a program starts, watches and ends.
package child

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// tailLines is how much of a log is shown when its program failed.
const tailLines = 15

// A Spawner starts programs from one operating system thread that lives as long
// as this program: Linux delivers a child's parent-death signal when the thread
// that forked it ends, and the Go runtime ends threads as it likes unless a
// goroutine is locked to them. It may be used by several goroutines at once.
type Spawner struct {
	Bin    string // where the programs are
	starts chan func()
}

// NewSpawner returns a Spawner of the programs in the folder bin.
func NewSpawner(bin string) *Spawner {
	s := &Spawner{Bin: bin, starts: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked
		for start := range s.starts {
			start()
		}
	}()
	return s
}

// Command prepares one of the programs, without the environment's KUBECONFIG:
// only kubeconfigs that are named on a command line are used.
func (s *Spawner) Command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.Bin, program), args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KUBECONFIG=") })
	cmd.SysProcAttr = attributes()
	return cmd
}

// Polite has cmd get what others leave of the processors, where the operating
// system has a program for that. It returns cmd.
func Polite(cmd *exec.Cmd) *exec.Cmd {
	if nice, err := exec.LookPath("nice"); err == nil {
		cmd.Args = append([]string{nice, "-n", "19", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = nice
	}
	return cmd
}

// Run runs cmd to its end and returns how it ended. It is killed when ctx ends.
func (s *Spawner) Run(ctx context.Context, cmd *exec.Cmd) error {
	if err := s.spawn(cmd); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	return cmd.Wait()
}

// Start starts cmd under a name that errors have. Its output goes to the file
// log, which is emptied first.
func (s *Spawner) Start(name, log string, cmd *exec.Cmd) (*Child, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if err := s.spawn(cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := &Child{Name: name, Log: log, PID: cmd.Process.Pid, process: cmd.Process, exited: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		close(c.exited)
	}()
	return c, nil
}

// spawn starts cmd on the thread that children are started from.
func (s *Spawner) spawn(cmd *exec.Cmd) error {
	result := make(chan error)
	s.starts <- func() { result <- cmd.Start() }
	return <-result
}

// A Child is a program that was started. It may be used by several goroutines at
// once.
type Child struct {
	Name    string
	Log     string // path
	PID     int
	process *os.Process
	exited  chan struct{} // closed once it is reaped
	err     error         // how it ended; valid after exited
}

// Exited returns a channel that is closed once c has ended.
func (c *Child) Exited() <-chan struct{} { return c.exited }

// Alive says whether c has not ended yet.
func (c *Child) Alive() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// Stop ends c with SIGTERM, after grace with SIGKILL, and returns when it is gone.
func (c *Child) Stop(grace time.Duration) {
	c.process.Signal(syscall.SIGTERM) // fails only when it is gone already
	select {
	case <-c.exited:
	case <-time.After(grace):
		c.process.Kill()
		<-c.exited
	}
}

// Kill ends c with SIGKILL and returns when it is gone.
func (c *Child) Kill() {
	c.process.Kill() // fails only when it is gone already
	<-c.exited
}

// Await polls ready until it returns nil. It is an error if ctx or c ends first.
func (c *Child) Await(ctx context.Context, interval time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return Poll(ctx, interval, func(ctx context.Context) error {
		if !c.Alive() {
			cancel()
			return c.Failure()
		}
		return ready(ctx)
	})
}

// Said returns the rest of the line of c's log that begins with prefix.
func (c *Child) Said(prefix string) (string, error) {
	data, err := os.ReadFile(c.Log)
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

// How says how c, which has exited, did so.
func (c *Child) How() string {
	if c.err == nil {
		return "exit status 0"
	}
	return c.err.Error()
}

// Failure says that c, which has exited, should not have, and what it said last.
func (c *Child) Failure() error {
	data, err := os.ReadFile(c.Log)
	if err != nil {
		return fmt.Errorf("%s ended (%s); %w", c.Name, c.How(), err)
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	return fmt.Errorf("%s ended (%s); end of %s:\n  %s", c.Name, c.How(), c.Log, strings.Join(lines, "\n  "))
}

// Poll calls f at once and then every interval until it returns nil. When ctx
// ends first the error holds both why and f's last one.
func Poll(ctx context.Context, interval time.Duration, f func(context.Context) error) error {
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
