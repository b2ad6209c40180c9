package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/berth-scheduler/berth/deploy/demo/internal/workload"
)

const (
	// look is the time between two looks at the progress.
	look = 200 * time.Millisecond
	// report is the time between two lines of progress where none can be
	// printed over.
	report = 5 * time.Second
	// quietLooks is how many looks in a row must find everything done, the
	// watcher at rest and nothing changed, where nobody knows what the workload
	// must become. One is not enough: what the API server has just been told
	// reaches the watcher and this program a moment later.
	quietLooks = 5
)

// follow prints the progress until every pod is as it should be (true), and, if
// that is not known of every pod, the watcher is at rest. It returns
// ctx's error when ctx ends first, and creating's if it is one.
func (d *demo) follow(ctx context.Context, creating <-chan error) (bool, error) {
	open := false // whether both outcomes are accepted of some pod
	for _, p := range d.workload.Pods {
		open = open || p.Want.Fit == workload.Unknown
	}
	began := time.Now()
	var last uint64
	var quiet int
	var reported time.Time
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		counts, version := d.tracker.Counts()
		done := counts.Done == counts.Total
		if done && open {
			if version == last && atRest(ctx, d.watcherAt) {
				quiet++
			} else {
				quiet = 0
			}
			done = quiet >= quietLooks
		}
		last = version

		line := fmt.Sprintf("%5.1f s  created %d of %d  bound %d  running %d  refused %d", time.Since(began).Seconds(),
			counts.Created, counts.Total, counts.Bound, counts.Running, counts.Refused)
		switch {
		case d.rewritable():
			fmt.Fprintf(d.out, "\r\x1b[K%-12s %s", "progress", line)
			if done {
				fmt.Fprintln(d.out)
			}
		case done || time.Since(reported) >= report:
			d.printf("progress", "%s", line)
			reported = time.Now()
		}
		if done {
			return true, nil
		}
		select {
		case <-ctx.Done():
			if d.rewritable() {
				fmt.Fprintln(d.out)
			}
			return false, context.Cause(ctx)
		case err := <-creating:
			if err != nil {
				return false, err
			}
			creating = nil
		case <-ticker.C:
		}
	}
}

// note prints a line between those of the progress.
func (d *demo) note(format string, args ...any) {
	if d.rewritable() {
		fmt.Fprint(d.out, "\r\x1b[K")
	}
	d.printf("note", format, args...)
}

// health asks a process how it is: nil is well, else what it answered.
func health(ctx context.Context, address, path string) error {
	body, err := get(ctx, address, path)
	if err != nil {
		return err
	}
	return body.Close()
}

// atRest says whether the watcher at address has no pod to decide, now or after
// a backoff, and none to bind. Pods that wait for the cluster to change do not
// count.
func atRest(ctx context.Context, address string) bool {
	body, err := get(ctx, address, "/metrics")
	if err != nil {
		return false
	}
	defer body.Close()
	gauges := map[string]bool{ // whether each is known and 0
		`scheduler_pending_pods{queue="active"}`:  false,
		`scheduler_pending_pods{queue="backoff"}`: false,
		`berth_watcher_binding_pods`:              false,
	}
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if _, wanted := gauges[name]; wanted {
			gauges[name] = value == "0"
		}
	}
	for _, zero := range gauges {
		if !zero {
			return false
		}
	}
	return lines.Err() == nil
}

// get asks for a page and returns it if the answer is 200 OK.
func get(ctx context.Context, address, path string) (io.ReadCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer cancel()
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // an answer without a text is still an answer
		return nil, errors.New(strings.Join(strings.Fields(resp.Status+": "+string(text)), " "))
	}
	return page{resp.Body, cancel}, nil
}

// A page is an answer being read, and frees its request when closed.
type page struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (p page) Close() error {
	defer p.cancel()
	return p.ReadCloser.Close()
}
