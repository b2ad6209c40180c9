package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

const downHelp = `Usage: local down [--dir D]

Ends the cluster of D and returns when all of its processes are gone. Logs stay
in D. That no cluster is running there is not an error.

  --dir D  folder of the cluster (default .local)
`

const restartHelp = `Usage: local restart [--dir D] COMPONENT

Ends a component of the running cluster with SIGTERM (after 3 s with SIGKILL),
starts it again with the same flags and port, and returns when it is ready. One
that is dead is just started.

  COMPONENT  etcd, kube-apiserver, kube-controller-manager, kwok, kube-scheduler
  --dir D    folder of the cluster (default .local)
`

const killHelp = `Usage: local kill [--dir D] COMPONENT

Kills a component of the running cluster with -9 and returns when it is gone. It
stays dead until local restart.

  COMPONENT  etcd, kube-apiserver, kube-controller-manager, kwok, kube-scheduler
  --dir D    folder of the cluster (default .local)
`

// controlSocket is the supervisor's unix socket in the cluster's folder. A
// request is one line, "down", "kill NAME" or "restart NAME". The answer is
// answerOK or the error in words, and then the end of the stream; for down it
// is the end of the stream alone, when the supervisor and all it ran are gone.
const (
	controlSocket = "control.sock"
	answerOK      = "ok"
)

// answerTimeout bounds how long a subcommand waits for the supervisor: longer
// than a stop and a start may take.
const answerTimeout = stopGrace + readyTimeout + 10*time.Second

type request struct{ verb, component string }

// listen opens the control socket of dir. The working directory becomes dir,
// because the path of a unix socket is limited to about 100 bytes, which a
// relative one never exceeds.
func listen(dir string) (net.Listener, error) {
	if err := os.Chdir(dir); err != nil {
		return nil, err
	}
	return net.Listen("unix", controlSocket)
}

// readRequest reads one request.
func readRequest(conn net.Conn) (request, error) {
	line, err := bufio.NewReader(io.LimitReader(conn, 1024)).ReadString('\n')
	if err != nil {
		return request{}, err
	}
	verb, component, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	return request{verb, component}, nil
}

// errNotRunning says that nobody answers at a folder's control socket.
var errNotRunning = errors.New("no cluster is running")

// ask sends r to the supervisor of dir and returns what it answered. Changes
// the working directory, as listen does.
func ask(ctx context.Context, dir string, r request) (string, error) {
	err := os.Chdir(dir)
	if err == nil {
		var conn net.Conn
		if conn, err = net.Dial("unix", controlSocket); err == nil {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			conn.SetDeadline(time.Now().Add(answerTimeout))
			fmt.Fprintf(conn, "%s\n", strings.TrimSpace(r.verb+" "+r.component))
			answer, err := io.ReadAll(conn)
			return strings.TrimSpace(string(answer)), err
		}
	}
	// The folder or the socket is missing, or the socket is left from a
	// supervisor that was killed.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return "", fmt.Errorf("%w in %s", errNotRunning, dir)
	}
	return "", err
}

func runDown(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("down", flag.ContinueOnError)
	dir := flags.String("dir", ".local", "")
	if _, err := parse(flags, args); err != nil {
		return err
	}
	if err := absolute(dir); err != nil {
		return err
	}
	_, err := ask(ctx, *dir, request{verb: "down"})
	if errors.Is(err, errNotRunning) {
		fmt.Fprintln(stdout, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("down: %w", err)
	}
	fmt.Fprintf(stdout, "the cluster in %s has ended\n", *dir)
	return nil
}

func runRestart(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return runOne(ctx, "restart", "%s is ready again\n", args, stdout)
}

func runKill(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return runOne(ctx, "kill", "%s is dead\n", args, stdout)
}

// runOne asks the supervisor to do verb to one component and prints done.
func runOne(ctx context.Context, verb, done string, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	dir := flags.String("dir", ".local", "")
	rest, err := parse(flags, args, "COMPONENT")
	if err != nil {
		return err
	}
	if err := absolute(dir); err != nil {
		return err
	}
	answer, err := ask(ctx, *dir, request{verb, rest[0]})
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", verb, err)
	case answer == "":
		return fmt.Errorf("%s: the supervisor ended before it answered", verb)
	case answer != answerOK:
		return fmt.Errorf("%s: %s", verb, answer)
	}
	fmt.Fprintf(stdout, done, rest[0])
	return nil
}
