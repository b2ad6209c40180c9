package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/berth-scheduler/berth/deploy/check/internal/audit"
	"github.com/berth-scheduler/berth/deploy/check/internal/history"
	"github.com/berth-scheduler/berth/deploy/check/internal/judge"
)

const (
	// catchUpTimeout is how long the events between the end of the recording
	// and the final list are watched for. They exist already; what takes time
	// is the API server's word that there are no more, which it gives two
	// seconds before a watch times out.
	catchUpTimeout = 4 * time.Second
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
	added := make([][]history.Record, len(finals))
	unknown := make([]error, len(finals))
	var wg sync.WaitGroup
	for i, last := range finals {
		wg.Go(func() { added[i], unknown[i] = catchUp(ctx, last.source, in.Records, last.objects, last.version) })
	}
	wg.Wait()
	in.Records = slices.Concat(in.Records, slices.Concat(added...))
	in.Until = finals[0].version // of the pods, listed first: later lists only add to what is known then
	report := judge.Judge(in)
	for i, last := range finals {
		if unknown[i] != nil {
			report.Incomplete = append(report.Incomplete, fmt.Sprintf(
				"the recording of kind %s does not lead to what the API server has at resourceVersion %d: %v", last.kind, last.version, unknown[i]))
		}
	}
	return report, nil
}

// errCaughtUp ends a watch that has shown all it is needed for.
var errCaughtUp = errors.New("caught up")

// catchUp returns the records of s that follow the recording, up to final,
// which is what was listed at version. It fails when recording and records do
// not lead to final.
func catchUp(ctx context.Context, s source, recording []history.Record, final map[string]history.Record, version uint64) ([]history.Record, error) {
	var added []history.Record
	f := &follower{source: s, timeout: catchUpTimeout}
	f.resume(recording, math.MaxUint64)
	if f.version == 0 {
		return nil, errors.New("it has none")
	}
	f.emit = func(rec history.Record) error {
		if rec.ResourceVersion > version && rec.Type != history.Gap {
			return errCaughtUp
		}
		added = append(added, rec)
		if rec.ResourceVersion == version && rec.Type == history.Progress {
			return errCaughtUp
		}
		return nil
	}
	if f.version < version {
		err := f.watchOnce(ctx)
		if errors.Is(err, errGone) {
			err = f.bridge(ctx, final, version)
		}
		if err != nil && !errors.Is(err, errCaughtUp) {
			return added, err
		}
	}
	f.resume(slices.Concat(recording, added), version)
	keys := map[string]bool{}
	for k := range f.known {
		keys[k] = true
	}
	for k := range final {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if !same(f.known[k], final[k]) {
			return added, fmt.Errorf("%s differs", k)
		}
	}
	return added, nil
}

// resume sets f to the state at the end of the recording, or at limit where
// the recording goes on after it.
func (f *follower) resume(recording []history.Record, limit uint64) {
	f.known = map[string]history.Record{}
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
