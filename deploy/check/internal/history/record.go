// Package history is the recording of a cluster: what happened to its pods,
// nodes, leases and namespaces, one JSON line per fact, with no more of each object than a
// judge reads.
//
// The lines of a recording are in no order that matters: a resourceVersion
// orders them, across kinds too, because all of them live in one etcd. A recording can be cut off at any byte; only the last line is then lost.
package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Type says what a Record records.
type Type string

const (
	// Listed is an object that existed when recording began, as it then was.
	// Its resourceVersion is the object's, so it may be much older than the
	// recording.
	Listed Type = "LISTED"
	// Added, Modified and Deleted are events of the API server's watch. The
	// resourceVersion of Deleted is that of the deletion, its object the last
	// one before it.
	Added    Type = "ADDED"
	Modified Type = "MODIFIED"
	Deleted  Type = "DELETED"
	// Synced says that from ResourceVersion on every event of Kind follows.
	Synced Type = "SYNCED"
	// Progress says that no event of Kind up to ResourceVersion is missing.
	Progress Type = "PROGRESS"
	// Gap says that events of Kind after Since and up to ResourceVersion may
	// be missing: the API server no longer had them. The objects found after
	// the gap follow as Added, Modified and Deleted; what happened to them in
	// between is not known.
	Gap Type = "GAP"
)

// A Kind is one of the kinds of object in a recording.
type Kind string

const (
	Pod       Kind = "Pod"
	Node      Kind = "Node"
	Lease     Kind = "Lease"
	Namespace Kind = "Namespace"
)

// Kinds are all kinds, in the order in which they are listed when a judgement
// begins: nodes last, so that every node a listed pod is on is known.
var Kinds = []Kind{Pod, Lease, Namespace, Node}

// A Record is one line of a recording. Exactly one of Pod, Node, Lease and
// Namespace is set in records about an object, none in the others.
type Record struct {
	Type Type `json:"type"`
	Kind Kind `json:"kind"`
	// ResourceVersion orders the records; see the Types for its meaning.
	ResourceVersion uint64 `json:"resourceVersion"`
	// Since is the resourceVersion after which a Gap begins, else 0.
	Since uint64 `json:"since,omitempty"`
	// Time is the recorder's clock when it wrote Synced; nothing is ordered
	// by it. It tells which lines of an audit log are older than the recording.
	Time *metav1.MicroTime `json:"time,omitempty"`

	Pod   *corev1.Pod           `json:"pod,omitempty"`
	Node  *corev1.Node          `json:"node,omitempty"`
	Lease *coordinationv1.Lease `json:"lease,omitempty"`

	Namespace *corev1.Namespace `json:"namespace,omitempty"`
}

// Object returns the object the record is about, nil when it is about none.
func (r *Record) Object() metav1.Object {
	switch {
	case r.Pod != nil:
		return r.Pod
	case r.Node != nil:
		return r.Node
	case r.Lease != nil:
		return r.Lease
	case r.Namespace != nil:
		return r.Namespace
	}
	return nil
}

// validate reports the first field that makes a record unusable.
func (r *Record) validate() error {
	count := 0
	for kind, set := range map[Kind]bool{Pod: r.Pod != nil, Node: r.Node != nil, Lease: r.Lease != nil, Namespace: r.Namespace != nil} {
		if set {
			count++
			if kind != r.Kind {
				return fmt.Errorf("kind: %q, but the record has another kind's object", r.Kind)
			}
		}
	}
	switch r.Kind {
	case Pod, Node, Lease, Namespace:
	default:
		return fmt.Errorf("kind: %q is not one of %v", r.Kind, Kinds)
	}
	switch r.Type {
	case Listed, Added, Modified, Deleted:
		if count != 1 {
			return fmt.Errorf("type: %s needs one object, got %d", r.Type, count)
		}
		if r.Object().GetName() == "" {
			return errors.New("metadata.name: empty")
		}
	case Synced, Progress, Gap:
		if count != 0 {
			return fmt.Errorf("type: %s has no object, got %d", r.Type, count)
		}
	default:
		return fmt.Errorf("type: %q is unknown; was the file written by another version?", r.Type)
	}
	if r.ResourceVersion == 0 {
		return errors.New("resourceVersion: 0")
	}
	return nil
}

// Read reads a recording. A last line without a newline is one that the
// recorder was killed in; it is left out.
func Read(r io.Reader) ([]Record, error) {
	var records []Record
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return records, nil
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		var rec Record
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&rec); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if err := rec.validate(); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		records = append(records, rec)
	}
}

// Write appends r to w as one line in one call of Write, so that a file
// written through it is whole up to its last newline at any time.
func Write(w io.Writer, r Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
