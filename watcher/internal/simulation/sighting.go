package simulation

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

type metaObject = metav1.Object

// sighting is a pod as one process has been told of it, and where its driver has it.
type sighting struct {
	uid    types.UID
	key    string
	object *corev1.Pod // as the watch showed it last; nil if it is gone
	place  Place
	woken  Cause // by what, since it was last decided; empty if it did not wait
	lied   bool  // its last rejection was a lie
	passed int   // batches that were handed out while it could have been in them
}

// Place is where a driver has a pod.
type Place string

const (
	nowhere  Place = "nowhere"
	active   Place = "active"
	backoff  Place = "backoff"
	waiting  Place = "waiting"
	out      Place = "out" // of the queue and in no phase: lost
	gated    Place = "gated"
	onNode   Place = "placed"
	deciding Place = "deciding"
	binding  Place = "binding"
	bound    Place = "bound"
	reading  Place = "reading"
)

// promised says whether the ledger holds room that nobody has confirmed.
func (p Place) promised() bool { return p == binding || p == bound || p == reading }

func placeOf(w driver.Where) Place {
	switch w.Phase {
	case "":
		switch {
		case w.Gated:
			return gated
		case w.Node != "":
			return onNode
		}
		return nowhere
	case "queued":
		if w.Queue == "unschedulable" {
			return waiting
		}
		return Place(w.Queue)
	}
	return Place(w.Phase)
}

// sight notes what an event tells of pods, before the driver knows.
func (p *process) sight(ev driver.Event) {
	switch ev := ev.(type) {
	case driver.PodChanged:
		key := ev.Pod.Name
		for _, s := range p.pods {
			if s.key == key && s.uid != ev.Pod.UID {
				s.object = nil
			}
		}
		s := p.byUID[ev.Pod.UID]
		if s == nil {
			s = &sighting{uid: ev.Pod.UID, key: key, place: nowhere}
			p.byUID[s.uid] = s
			p.pods = append(p.pods, s)
		}
		s.object = ev.Pod
	case driver.PodGone:
		if s := p.byUID[ev.Pod.UID]; s != nil {
			s.object = nil
		}
	}
}

// concerns says whether the event tells something of the pod.
func (s *sighting) concerns(ev driver.Event) bool {
	switch ev := ev.(type) {
	case driver.PodChanged:
		return ev.Pod.UID == s.uid || ev.Pod.Name == s.key
	case driver.PodGone:
		return ev.Pod.UID == s.uid
	case driver.BindDone:
		return ev.UID == s.uid
	case driver.ReadDone:
		return ev.UID == s.uid
	}
	return false
}

// serial is the number in a pod's uid, which no other has.
func serial(uid types.UID) uint64 {
	_, number, _ := strings.Cut(string(uid), "-")
	n, _ := strconv.ParseUint(number, 10, 64)
	return n
}

// names are the pods of a request, for stories.
func names(pods []*berthv1.Pod) string {
	var out []string
	for _, p := range pods {
		out = append(out, p.GetUid())
	}
	return strings.Join(out, " ")
}

// told is an answer, for stories.
func told(r *berthv1.DecideResponse, err error) string {
	if r == nil {
		return err.Error()
	}
	out := []string{"version " + strconv.FormatUint(r.GetVersion(), 10) + " of " + r.GetEpoch()}
	for _, d := range r.GetDecisions() {
		line := d.GetPodUid() + " " + strings.ToLower(strings.TrimPrefix(d.GetOutcome().String(), "OUTCOME_"))
		if c := d.GetCandidates(); len(c) > 0 {
			line = d.GetPodUid() + " on " + c[0].GetNodeName()
		}
		if m := d.GetPreemption(); m != nil {
			line += ", evicting from " + m.GetNodeName()
			for _, v := range m.GetVictims() {
				line += " " + v.GetUid()
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, "; ")
}
