package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// What decides: Berth's own decider with either of its solvers, or kube-scheduler's
// plugins.
const plain, indexed, upstream = "plain", "indexed", "upstream"

// solvers are the deciders that are measured: which program, and what it is told.
var solvers = map[string]struct {
	program string
	args    []string
}{
	plain:    {"decider", []string{"--solver", "plain"}},
	indexed:  {"decider", []string{"--solver", "indexed"}},
	upstream: {"upstream", nil},
}

// maxMessage is the largest message that a decider may take: an inline snapshot of
// 1,000,000 nodes fits.
const maxMessage = 1<<31 - 1

// A decider is what decides, and the connection to it.
type decider struct {
	solver string
	conn   *grpc.ClientConn
	pid    string // of its process, or "self"
	stop   func() // ends it and returns when it is gone
}

// A starter starts the decider of a solver, which answers when start returns. It is
// killed when ctx ends.
type starter func(ctx context.Context, solver string) (*decider, error)

// processes starts deciders from the programs in a folder.
func processes(bin string) starter {
	return func(ctx context.Context, solver string) (*decider, error) {
		p, err := startProcess(ctx, bin, solver)
		if err != nil {
			return nil, err
		}
		d := &decider{solver: solver, conn: p.conn, pid: strconv.Itoa(p.cmd.Process.Pid), stop: p.stop}
		return d, nil
	}
}

// A process is one that decides.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once it is reaped
	conn   *grpc.ClientConn
	log    *bytes.Buffer // valid once it is reaped
	dir    string
}

// startProcess starts the process of a solver and waits until it answers.
func startProcess(ctx context.Context, bin, solver string) (_ *process, err error) {
	dir, err := os.MkdirTemp("", "berth-bench-")
	if err != nil {
		return nil, err
	}
	s := solvers[solver]
	address := "unix://" + filepath.Join(dir, "decider.sock")
	args := append([]string{"--listen", address, "--max-message-bytes", strconv.Itoa(maxMessage), "--drain-timeout", "1s"}, s.args...)
	p := &process{
		dir: dir, log: &bytes.Buffer{}, exited: make(chan struct{}),
		cmd: exec.CommandContext(ctx, filepath.Join(bin, s.program), args...),
	}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = childAttributes()
	if err := onThread(p.cmd.Start); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // failure says how it ended
		close(p.exited)
	}()
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	if p.conn, err = dial(address); err != nil {
		return nil, err
	}
	return p, p.awaitAnswer(ctx)
}

// dial returns a connection to the decider at address.
func dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithInitialWindowSize(4<<20), grpc.WithInitialConnWindowSize(4<<20),
	)
}

// awaitAnswer blocks until the decider says who it is.
func (p *process) awaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client := berthv1.NewDeciderServiceClient(p.conn)
	for {
		_, err := client.Describe(ctx, &berthv1.DescribeRequest{})
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended (%v):\n%s", p.cmd, p.cmd.ProcessState, p.log)
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", p.cmd, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the process and returns when it is gone.
func (p *process) stop() {
	if p.conn != nil {
		p.conn.Close()
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only when it is gone already
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	os.RemoveAll(p.dir)
}

// cpu is the processor time that the decider has used so far; 0 where the operating
// system does not say.
func (d *decider) cpu() time.Duration { return processorTime(d.pid) }

// peak is the most memory that the decider has held so far, in bytes; 0 where the
// operating system does not say.
func (d *decider) peak() int64 { return peakMemory(d.pid) }

// processorTime reads utime and stime of /proc/PID/stat, in hundredths of a second; pid
// may be "self".
func processorTime(pid string) time.Duration {
	data, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ") // after the program's name
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// peakMemory reads VmHWM of /proc/PID/status; pid may be "self".
func peakMemory(pid string) int64 {
	data, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// starts are run on one operating system thread that lives as long as this program:
// Linux delivers a child's parent-death signal when the thread that forked it ends.
var starts = make(chan func())

func init() {
	go func() {
		runtime.LockOSThread() // never unlocked
		for start := range starts {
			start()
		}
	}()
}

// onThread runs start there.
func onThread(start func() error) error {
	result := make(chan error)
	starts <- func() { result <- start() }
	return <-result
}
