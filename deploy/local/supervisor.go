package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const upHelp = `Usage: local up [--dir D] [--nodes N] [--bin DIR] [--bare] [--scheduler] [--detach]

Starts a cluster: etcd, kube-apiserver, kube-controller-manager and kwok, which
plays the kubelet of every node annotated kwok.x-k8s.io/node=fake. Prints
"kubeconfig: PATH" when it is ready, stays until SIGINT or SIGTERM, and takes
every process with it, on Linux also when it is killed with -9.

What a previous cluster left in D is wiped. Clusters with different D can run
side by side. etcd runs with --unsafe-no-fsync: fast, and its data would not
survive a power cut. Every finished write is a line of D/audit.log; per
component there are D/NAME.log and, while it runs, D/NAME.pid.

  --dir D      folder of the cluster (default .local)
  --nodes N    create N simulated nodes, 32 CPU, 256Gi and 110 pods each, in
               turn in three zones, and wait until they are Ready (default 0)
  --bin DIR    where the programs are (default: the folder of this program)
  --bare       etcd and kube-apiserver alone: no controllers, no kubelets, no
               admission that needs them; pods stay Pending. For benchmarks.
  --scheduler  also run kube-scheduler
  --detach     return when the cluster is ready; local down ends it
`

// lockFile is held with flock(2) by the one supervisor of a folder.
const lockFile = "lock"

// detachedLog is where a detached supervisor writes, in the cluster's folder.
const detachedLog = "local.log"

func runUp(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("up", flag.ContinueOnError)
	dir := fs.String("dir", ".local", "")
	nodes := fs.Int("nodes", 0, "")
	bin := fs.String("bin", programFolder(), "")
	bare := fs.Bool("bare", false, "")
	scheduler := fs.Bool("scheduler", false, "")
	detach := fs.Bool("detach", false, "")
	// The descriptor that gets the line with the kubeconfig instead of stdout.
	// Given by --detach to its child, not by people.
	readyFD := fs.Int("ready-fd", 0, "")
	if _, err := parse(fs, args); err != nil {
		return err
	}
	if *nodes < 0 || *nodes > 99999 {
		return usagef("up: --nodes %d: must be between 0 and 99999", *nodes)
	}
	if err := errors.Join(absolute(dir), absolute(bin)); err != nil {
		return err
	}
	if *detach {
		return detached(ctx, *dir, []string{"up", "--ready-fd=3",
			"--dir=" + *dir, fmt.Sprint("--nodes=", *nodes), "--bin=" + *bin,
			fmt.Sprint("--bare=", *bare), fmt.Sprint("--scheduler=", *scheduler),
		}, stdout)
	}
	s := &supervisor{dir: *dir, bin: *bin, stderr: stderr}
	ready := func() { fmt.Fprintf(stdout, "kubeconfig: %s\n", s.cluster.kubeconfig) }
	if *readyFD > 0 {
		syscall.CloseOnExec(*readyFD) // no component may hold it open
		pipe := os.NewFile(uintptr(*readyFD), "ready")
		ready = func() {
			fmt.Fprintf(pipe, "kubeconfig: %s\n", s.cluster.kubeconfig)
			pipe.Close()
		}
	}
	return s.run(ctx, *nodes, *bare, *scheduler, ready)
}

// detached runs this program again with args in a session of its own, descriptor
// 3 being where it is told of the cluster, and returns when that one is ready or
// failed.
func detached(ctx context.Context, dir string, args []string, stdout io.Writer) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	log, err := os.CreateTemp(dir, detachedLog+".")
	if err != nil {
		return err
	}
	defer os.Remove(log.Name()) // no effect once it has its name
	defer log.Close()
	ready, child, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(exe, args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{child}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	child.Close()

	// Interrupted while waiting: the child goes too.
	stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(syscall.SIGTERM) })
	line, err := io.ReadAll(ready) // ends when the child closes or exits
	if err == nil && len(line) > 0 && stop() {
		if err := os.Rename(log.Name(), filepath.Join(dir, detachedLog)); err != nil {
			return err
		}
		_, err = stdout.Write(line)
		return err
	}
	cmd.Wait()
	if ctx.Err() != nil {
		return errors.New("up: interrupted")
	}
	text, err := os.ReadFile(log.Name())
	if err != nil {
		return err
	}
	return fmt.Errorf("up --detach failed; its output:\n%s", lastLines(text, 2*tailLines))
}

// A supervisor runs the processes of one cluster.
type supervisor struct {
	dir, bin string
	stderr   io.Writer
	cluster  *cluster

	ops       sync.Mutex // one start, restart or kill at a time
	processes []*process // in starting order; fixed before control begins
}

// run starts a cluster, calls ready once it is usable, and ends it when ctx ends
// or down is asked for. When it returns no process is left.
func (s *supervisor) run(ctx context.Context, nodes int, bare, scheduler bool, ready func()) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	lock, err := acquire(s.dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if s.cluster, err = newCluster(s.dir, bare, scheduler); err != nil {
		return err
	}
	if err := s.findPrograms(); err != nil {
		return err
	}
	spawn := newSpawner()
	for _, c := range s.cluster.components {
		s.processes = append(s.processes, &process{component: c, bin: s.bin, dir: s.dir, spawn: spawn, died: s.died})
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listener, err := listen(s.dir)
	if err != nil {
		return err
	}
	defer os.Remove(filepath.Join(s.dir, controlSocket))
	defer listener.Close()
	go s.control(ctx, listener, cancel)

	defer s.stopAll()
	s.ops.Lock()
	err = s.startAll(ctx, nodes, bare)
	s.ops.Unlock()
	if ctx.Err() != nil {
		return nil // told to stop while starting: no failure
	}
	if err != nil {
		return err
	}
	ready()
	<-ctx.Done()
	return nil
}

// findPrograms fails if one of the cluster's programs is not compiled.
func (s *supervisor) findPrograms() error {
	for _, c := range s.cluster.components {
		if _, err := exec.LookPath(filepath.Join(s.bin, c.name)); err != nil {
			return fmt.Errorf("%s is not in %s; compile the control plane with make tools, or name its folder with --bin", c.name, s.bin)
		}
	}
	return nil
}

// startAll brings the cluster up to the point where a pod that is created and
// bound to one of its nodes runs.
func (s *supervisor) startAll(ctx context.Context, nodes int, bare bool) error {
	for i, p := range s.processes {
		if err := p.start(); err != nil {
			return err
		}
		// etcd and kube-apiserver, one after the other; the rest all at once.
		if i < 2 {
			if err := s.await(ctx, p); err != nil {
				return err
			}
		}
		if p.name == "kube-apiserver" && !bare {
			if err := s.cluster.authorizeKwok(ctx); err != nil {
				return err
			}
		}
	}
	for _, p := range s.processes[2:] {
		if err := s.await(ctx, p); err != nil {
			return err
		}
	}
	if !bare {
		if err := s.cluster.awaitServiceAccount(ctx); err != nil {
			return err
		}
	}
	if nodes == 0 {
		return nil
	}
	began := time.Now()
	if err := createNodes(ctx, s.cluster.server, nodes); err != nil {
		return err
	}
	fmt.Fprintf(s.stderr, "%d nodes Ready after %.1fs\n", nodes, time.Since(began).Seconds())
	return nil
}

func (s *supervisor) await(ctx context.Context, p *process) error {
	began := time.Now()
	if err := p.await(ctx); err != nil {
		return err
	}
	fmt.Fprintf(s.stderr, "%s ready after %.1fs\n", p.name, time.Since(began).Seconds())
	return nil
}

// stopAll kills every process at once: the state is wiped by the next up, so
// nothing is gained by an orderly shutdown.
func (s *supervisor) stopAll() {
	s.ops.Lock()
	defer s.ops.Unlock()
	var wg sync.WaitGroup
	for _, p := range s.processes {
		wg.Go(func() { p.stop(0) })
	}
	wg.Wait()
}

// died reports a component that nobody asked to end. It is not started again: a
// test that looks for crashes must see them.
func (s *supervisor) died(p *process, err error) {
	fmt.Fprintf(s.stderr, "%s died (%v); local restart %s starts it again; end of %s:\n%s\n", p.name, err, p.name, p.logFile(), p.tail())
}

// acquire takes the folder for this supervisor. The kernel gives it back when
// the process ends, however it ends.
func acquire(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return lock, nil
	}
	lock.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("a cluster is running in %s; end it with local down, or choose another --dir", dir)
	}
	return nil, fmt.Errorf("locking %s: %w", lock.Name(), err)
}

// control answers the other subcommands until the listener is closed.
func (s *supervisor) control(ctx context.Context, listener net.Listener, down func()) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go s.answer(ctx, conn, down)
	}
}

// answer carries out one request. The connection of a down stays open: its end
// is the end of this process, which is what the other side waits for.
func (s *supervisor) answer(ctx context.Context, conn net.Conn, down func()) {
	request, err := readRequest(conn)
	if err != nil {
		conn.Close()
		return
	}
	if request.verb == "down" {
		down()
		return
	}
	defer conn.Close()
	if err := s.handle(ctx, request); err != nil {
		fmt.Fprintf(conn, "%v\n", err)
		return
	}
	fmt.Fprintln(conn, answerOK)
}

func (s *supervisor) handle(ctx context.Context, r request) error {
	i := slices.IndexFunc(s.processes, func(p *process) bool { return p.name == r.component })
	if i < 0 {
		var names []string
		for _, p := range s.processes {
			names = append(names, p.name)
		}
		return fmt.Errorf("no component %q in this cluster; it has %s", r.component, strings.Join(names, ", "))
	}
	p := s.processes[i]
	s.ops.Lock()
	defer s.ops.Unlock()
	if ctx.Err() != nil {
		return errors.New("the cluster is being ended")
	}
	switch r.verb {
	case "kill":
		if pid := p.stop(0); pid == 0 {
			return fmt.Errorf("%s is not running", p.name)
		}
		return nil
	case "restart":
		p.stop(stopGrace)
		if err := p.start(); err != nil {
			return err
		}
		return p.await(ctx)
	}
	return fmt.Errorf("unknown request %q", r.verb)
}
