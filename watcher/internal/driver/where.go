package driver

import "k8s.io/apimachinery/pkg/types"

// Where is where one pod is: see the drawing above the package. It is for those who
// hold the driver to its laws; the zero value is a pod that is nowhere.
type Where struct {
	// Phase is the pod's; empty if it has none.
	Phase string
	// Queue is the queue's state of it; empty if it is not in the queue.
	Queue string
	// Withdrawn pods leave when the work on them that is under way has ended.
	Withdrawn bool
	// Gated pods are ours and wait for their gates.
	Gated bool
	// Node is where the ledger holds room for it, Assumed whether that is a promise.
	Node    string
	Assumed bool
}

// Where says where a pod is. It changes nothing.
func (d *Driver) Where(uid types.UID) Where {
	w := Where{Gated: d.gated[uid]}
	if p := d.pods[uid]; p != nil {
		w.Phase, w.Withdrawn = p.phase.String(), p.withdrawn
	}
	if e := d.queue.Get(uid); e != nil {
		w.Queue = e.State().String()
	}
	w.Node, w.Assumed, _ = d.ledger.Holds(uid)
	return w
}

// Version is the version of the state as it stands.
func (d *Driver) Version() uint64 { return d.ledger.Version() }
