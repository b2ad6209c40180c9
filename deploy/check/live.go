package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/berth-scheduler/berth/deploy/check/internal/audit"
	"github.com/berth-scheduler/berth/deploy/check/internal/history"
	"github.com/berth-scheduler/berth/deploy/check/internal/judge"
)

const (
	// catchUpTimeout bounds how long events between the end of the recording
	// and the final list are waited for; they exist already.
	catchUpTimeout = 30 * time.Second
	// attempts is how often an incomplete judgement is begun again: on a
	// cluster that is still working, the log and the list are never of the
	// same moment.
	attempts = 3
)

// files are where the recording and the audit log are, the latter in order.
type files struct {
	recording string
	audit     []string
}

// judgeLive judges the recording up to what the API server has now.
func judgeLive(ctx context.Context, client kubernetes.Interface, f files, in judge.Input) (judge.Report, error) {
	for attempt := 1; ; attempt++ {
		report, err := judgeOnce(ctx, client, f, in)
		if err != nil || len(report.Incomplete) == 0 || attempt == attempts {
			return report, err
		}
		select {
		case <-ctx.Done():
			return report, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// judgeOnce reads the audit log, then lists, then reads the recording, in this
// order: what the log says was bound is then in the list, and what is in the
// list is in the recording or can still be watched.
func judgeOnce(ctx context.Context, client kubernetes.Interface, f files, in judge.Input) (judge.Report, error) {
	var err error
	if in.Binds, err = readAudit(f.audit); err != nil {
		return judge.Report{}, err
	}
	type final struct {
		source
		objects map[string]history.Record
		version uint64
	}
	var finals []final
	for _, s := range sources(client) {
		objects, version, err := s.snapshot(ctx, metav1.ListOptions{})
		if err != nil {
			return judge.Report{}, fmt.Errorf("list kind %s: %w", s.kind, err)
		}
		finals = append(finals, final{s, objects, version})
	}
	if in.Records, err = readRecording(f.recording); err != nil {
		return judge.Report{}, err
	}
	var unknown []string
	for _, last := range finals {
		added, err := catchUp(ctx, last.source, in.Records, last.objects, last.version)
		in.Records = append(in.Records, added...)
		if err != nil {
			unknown = append(unknown, fmt.Sprintf("the recording of kind %s does not lead to what the API server has at resourceVersion %d: %v", last.kind, last.version, err))
		}
	}
	in.Until = finals[0].version // of the pods, listed first: later lists only add to what is known then
	report := judge.Judge(in)
	report.Incomplete = append(report.Incomplete, unknown...)
	return report, nil
}

// errCaughtUp ends a watch that has shown all it is needed for.
var errCaughtUp = errors.New("caught up")

// catchUp returns the records of s that follow the recording, up to final,
// which is what was listed at version. The recording is whole when it and they
// lead to final, else catchUp says what does not.
func catchUp(ctx context.Context, s source, recording []history.Record, final map[string]history.Record, version uint64) ([]history.Record, error) {
	var added []history.Record
	f := &follower{source: s, known: map[string]history.Record{}}
	f.resume(recording, version)
	wrong := map[string]bool{} // keys whose state is not the final one
	for k, rec := range final {
		wrong[k] = !same(f.known[k], rec)
	}
	for k := range f.known {
		wrong[k] = !same(f.known[k], final[k])
	}
	open := 0
	for _, bad := range wrong {
		if bad {
			open++
		}
	}
	if open == 0 {
		return nil, nil
	}
	if f.version == 0 {
		return nil, errors.New("nothing of this kind was recorded")
	}
	f.emit = func(rec history.Record) error {
		if rec.ResourceVersion > version || rec.Type == history.Progress {
			return nil
		}
		added = append(added, rec)
		k := key(rec)
		if bad := !same(f.known[k], final[k]); bad != wrong[k] {
			wrong[k] = bad
			if bad {
				open++
			} else {
				open--
			}
		}
		if open == 0 {
			return errCaughtUp
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	for {
		since := f.version
		err := f.watchOnce(ctx)
		switch {
		case errors.Is(err, errCaughtUp):
			return added, nil
		case errors.Is(err, errGone):
			return added, fmt.Errorf("it ends at %d, and the API server no longer has what followed: keep the recorder running until check has ended", since)
		case err != nil:
			return added, fmt.Errorf("%d objects differ, such as %s: %w", open, anyOf(wrong), err)
		}
	}
}

// resume sets f to the state at the end of the recording, or at limit where
// the recording goes on after it.
func (f *follower) resume(recording []history.Record, limit uint64) {
	last := map[string]history.Record{}
	for _, rec := range recording {
		if rec.Kind != f.kind || rec.ResourceVersion > limit {
			continue
		}
		f.version = max(f.version, rec.ResourceVersion)
		if rec.Object() == nil {
			continue
		}
		if k := key(rec); rec.ResourceVersion >= last[k].ResourceVersion {
			last[k] = rec
		}
	}
	for k, rec := range last {
		if rec.Type != history.Deleted {
			f.known[k] = rec
		}
	}
}

// anyOf returns the first key in order that is true.
func anyOf(m map[string]bool) string {
	first := ""
	for k, v := range m {
		if v && (first == "" || k < first) {
			first = k
		}
	}
	return first
}

func readRecording(path string) ([]history.Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--record: %w", err)
	}
	defer f.Close()
	records, err := history.Read(f)
	if err != nil {
		return nil, fmt.Errorf("--record %s: %w", path, err)
	}
	return records, nil
}

// readAudit reads the files of an audit log as one.
func readAudit(paths []string) ([]audit.Bind, error) {
	var readers []io.Reader
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("--audit-log: %w", err)
		}
		defer f.Close()
		readers = append(readers, f)
	}
	binds, err := audit.Read(io.MultiReader(readers...))
	if err != nil {
		return nil, fmt.Errorf("--audit-log %v: %w", paths, err)
	}
	return binds, nil
}
