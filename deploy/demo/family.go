package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-scheduler/berth/deploy/internal/child"
)

const (
	// stopGrace is how long a child has between SIGTERM and SIGKILL. The local
	// cluster needs most, since it ends four processes of its own.
	stopGrace = 45 * time.Second
	// pollInterval is the time between two looks at something awaited.
	pollInterval = 50 * time.Millisecond
)

// A family is the processes that one run started. One goroutine uses it.
type family struct {
	spawner  *child.Spawner
	dir      string // where their logs go
	children []*child.Child
	ended    chan *child.Child // children that ended, whether they were asked to or not
}

// newFamily returns a family without members.
func newFamily(bin, dir string) *family {
	return &family{spawner: child.NewSpawner(bin), dir: dir, ended: make(chan *child.Child, 64)}
}

// require returns an error if one of the programs is missing.
func (f *family) require(programs ...string) error {
	var missing []string
	for _, p := range programs {
		if _, err := os.Stat(filepath.Join(f.spawner.Bin, p)); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s has no %s: run make tools build", f.spawner.Bin, strings.Join(missing, ", "))
	}
	return nil
}

// start starts a program under a name of its own, which also names its log.
func (f *family) start(name, program string, args ...string) (*child.Child, error) {
	c, err := f.spawner.Start(name, filepath.Join(f.dir, name+".log"), f.spawner.Command(program, args...))
	if err != nil {
		return nil, err
	}
	f.children = append(f.children, c)
	go func() {
		<-c.Exited()
		f.ended <- c
	}()
	return c, nil
}

// output runs a program to its end and returns what it printed, its mistakes
// included. It is killed when ctx ends.
func (f *family) output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := f.spawner.Command(program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := f.spawner.Run(ctx, cmd)
	return out.String(), err
}

// stop ends all children, the newest first, and returns when they are gone.
func (f *family) stop() {
	for _, c := range slices.Backward(f.children) {
		c.Stop(stopGrace)
	}
}

// awaitLine blocks until c's log has a line that begins with prefix, and returns
// the rest of it. It is an error if c ends first.
func awaitLine(ctx context.Context, c *child.Child, prefix string) (line string, err error) {
	err = c.Await(ctx, pollInterval, func(context.Context) (err error) {
		line, err = c.Said(prefix)
		return err
	})
	if err != nil && !c.Alive() {
		err = c.Failure()
	}
	return line, err
}
