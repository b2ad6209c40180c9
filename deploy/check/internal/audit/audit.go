// Package audit is what the API server's audit log says about binding pods to
// nodes: who asked, for which pod and node, and what the answer was.
package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// A Bind is one request to bind a pod to a node.
type Bind struct {
	// ID is the API server's audit ID of the request.
	ID string
	// Namespace and Pod name the pod; UID is its UID where the request gave
	// one, else empty.
	Namespace, Pod, UID string
	// Node and NodeUID are the target; both are empty where the audit policy
	// records less than the request, NodeUID also where the request gave none.
	Node, NodeUID string
	// User and UserAgent are those of the request.
	User, UserAgent string
	// Received is when the API server received the request, by its clock.
	Received time.Time
	// Code is the HTTP status of the answer. 0 means that the log has no
	// answer: the API server died, or the client went away, in between.
	Code int
	// Reason and Message are those of a Status that was not a success.
	Reason, Message string
	// Shallow is whether the audit policy keeps the request to itself. Where
	// it does not, and Node is empty all the same, the API server never read
	// the request, as when its client is killed while it sends.
	Shallow bool
}

// OK reports whether the API server answered that the pod was bound.
func (b *Bind) OK() bool { return b.Code/100 == 2 }

// Refused reports whether the API server answered that it would not bind the
// pod, or failed before it had read what to bind; nothing was then written.
func (b *Bind) Refused() bool {
	return b.Code/100 == 4 || b.Code/100 == 5 && b.Node == "" && !b.Shallow
}

// Identity is the leader election identity of the watcher that sent the
// request, from a user agent "berth-watcher/VERSION (IDENTITY)"; empty for
// every other client.
func (b *Bind) Identity() string {
	if !strings.HasPrefix(b.UserAgent, "berth-watcher/") {
		return ""
	}
	_, rest, _ := strings.Cut(b.UserAgent, "(")
	if end := strings.LastIndexByte(rest, ')'); end >= 0 {
		return rest[:end]
	}
	return ""
}

// event is the part of an audit.k8s.io/v1 Event that is read here.
type event struct {
	Level     string `json:"level"`
	AuditID   string `json:"auditID"`
	Stage     string `json:"stage"`
	Verb      string `json:"verb"`
	UserAgent string `json:"userAgent"`
	User      struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef *struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		UID         string `json:"uid"`
	} `json:"objectRef"`
	ResponseStatus *struct {
		Code    int    `json:"code"`
		Reason  string `json:"reason"`
		Message string `json:"message"`
	} `json:"responseStatus"`
	RequestObject *struct {
		Metadata struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"metadata"`
		Target struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"target"`
	} `json:"requestObject"`
	RequestReceivedTimestamp time.Time `json:"requestReceivedTimestamp"`
}

// Read returns the binds of an audit log (JSON lines, several files one after
// the other) in the order in which the log first mentions them. A last line
// without a newline is still being written; it is left out. Dry runs count as
// they are logged: a scheduler that we judge sends none.
func Read(r io.Reader) ([]Bind, error) {
	var binds []Bind
	index := map[string]int{} // audit ID to its place in binds: a request is logged once per stage
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return binds, nil
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		// Most lines of a log are about something else; decoding them all
		// would be most of the work.
		if !bytes.Contains(line, []byte(`binding`)) {
			continue
		}
		var ev event
		if err := json.Unmarshal(line, &ev); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if !ev.isBind() {
			continue
		}
		i, seen := index[ev.AuditID]
		if !seen {
			i = len(binds)
			index[ev.AuditID] = i
			binds = append(binds, Bind{})
		}
		ev.fill(&binds[i])
	}
}

// isBind reports whether the event is about POST pods/NAME/binding or the
// older POST bindings.
func (ev *event) isBind() bool {
	ref := ev.ObjectRef
	return ev.Verb == "create" && ref != nil &&
		(ref.Resource == "pods" && ref.Subresource == "binding" || ref.Resource == "bindings")
}

// fill adds what this stage of the request tells to b.
func (ev *event) fill(b *Bind) {
	b.ID = ev.AuditID
	b.Namespace, b.Pod = ev.ObjectRef.Namespace, ev.ObjectRef.Name
	b.User, b.UserAgent = ev.User.Username, ev.UserAgent
	b.Received = ev.RequestReceivedTimestamp
	b.Shallow = ev.Level != "Request" && ev.Level != "RequestResponse"
	if ev.ObjectRef.UID != "" {
		b.UID = ev.ObjectRef.UID
	}
	if req := ev.RequestObject; req != nil {
		if b.Pod == "" {
			b.Pod = req.Metadata.Name
		}
		if req.Metadata.UID != "" {
			b.UID = req.Metadata.UID
		}
		b.Node, b.NodeUID = req.Target.Name, req.Target.UID
	}
	if (ev.Stage == "ResponseComplete" || ev.Stage == "Panic") && ev.ResponseStatus != nil {
		b.Code = ev.ResponseStatus.Code
		if !b.OK() {
			b.Reason, b.Message = ev.ResponseStatus.Reason, ev.ResponseStatus.Message
		}
	}
}
