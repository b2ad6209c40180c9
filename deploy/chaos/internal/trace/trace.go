// Package trace is what the API server's audit log says that watchers did to pods.
package trace

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// A Trace is the successful writes of all watchers, in the order of the log.
type Trace struct {
	Binds     []Write
	Evictions []Write // deletions of pods, by whichever request
}

// A Write is one that the API server answered with success.
type Write struct {
	Namespace, Pod string
	At             time.Time // when the request arrived, by the API server's clock
	By             string    // the leader election identity
}

// agent is how the user agents of watchers begin; the rest is VERSION (IDENTITY).
const agent = "berth-watcher/"

// event is the part of an audit.k8s.io/v1 Event that is read here.
type event struct {
	Stage     string `json:"stage"`
	Verb      string `json:"verb"`
	UserAgent string `json:"userAgent"`
	ObjectRef *struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus *struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	RequestReceivedTimestamp time.Time `json:"requestReceivedTimestamp"`
}

// Read reads an audit log. A last line without its end is still being written, or was
// when the API server died; it is passed over.
func Read(r io.Reader) (Trace, error) {
	var t Trace
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return t, fmt.Errorf("line %d: %w", n, err)
		}
		// Most lines are about something else, and decoding is most of the work.
		if !bytes.Contains(line, []byte(agent)) || !bytes.Contains(line, []byte(`"pods"`)) {
			continue
		}
		var ev event
		if err := json.Unmarshal(line, &ev); err != nil {
			// An API server that was killed leaves half a line, which the next continues.
			continue
		}
		if ev.Stage != "ResponseComplete" || ev.ObjectRef == nil || ev.ObjectRef.Resource != "pods" || ev.ResponseStatus == nil ||
			ev.ResponseStatus.Code/100 != 2 || !strings.HasPrefix(ev.UserAgent, agent) {
			continue
		}
		w := Write{Namespace: ev.ObjectRef.Namespace, Pod: ev.ObjectRef.Name, At: ev.RequestReceivedTimestamp, By: identity(ev.UserAgent)}
		switch {
		case ev.Verb == "create" && ev.ObjectRef.Subresource == "binding":
			t.Binds = append(t.Binds, w)
		case ev.Verb == "create" && ev.ObjectRef.Subresource == "eviction", ev.Verb == "delete" && ev.ObjectRef.Subresource == "":
			t.Evictions = append(t.Evictions, w)
		}
	}
}

func identity(userAgent string) string {
	_, rest, _ := strings.Cut(userAgent, "(")
	name, _, _ := strings.Cut(rest, ")")
	return name
}

// A Pause is a time in which nothing was bound.
type Pause struct {
	From time.Time     `json:"from"`
	Took time.Duration `json:"-"`
}

// LongestPause is the longest time without a bind between two instants; before the
// first and after the last bind counts too.
func LongestPause(binds []Write, from, to time.Time) Pause {
	var longest Pause
	last := from
	pause := func(until time.Time) {
		if d := until.Sub(last); d > longest.Took {
			longest = Pause{last, d}
		}
		if until.After(last) {
			last = until
		}
	}
	for _, b := range binds {
		if b.At.After(from) && b.At.Before(to) {
			pause(b.At)
		}
	}
	pause(to)
	return longest
}
