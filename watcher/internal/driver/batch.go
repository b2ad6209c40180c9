package driver

import (
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/cluster"
	"github.com/berth-scheduler/berth/watcher/internal/queue"
)

const (
	// batchTime is how long deciding on a batch is to take: what is bound meanwhile is not
	// known to the decider, and what fails is found out no earlier.
	batchTime = 200 * time.Millisecond
	// firstBatch is how many pods are in a batch as long as nobody knows what deciding on
	// one takes.
	firstBatch = 100
	// moreCandidates is how many nodes are asked for per pod where the first one may be
	// taken by another batch or was refused before.
	moreCandidates = 4
)

// outstanding is a batch without an answer yet.
type outstanding struct {
	*Batch
	since map[cluster.Change]bool // what changed since it was handed out
	// together says that it has the pods that interact.
	together bool
	// taken are nodes on which pods of other batches were promised room since.
	taken    map[string]bool
	deciders uint64 // the driver's count by then
}

// nextBatches puts into Ready the batches that may be handed out.
func (d *Driver) nextBatches() {
	for d.nextBatch() {
	}
}

// nextBatch puts the next batch into Ready and reports whether one may be handed out.
//
// Side by side are as many as there are replicas, as long as it is the deciders that
// everybody waits for: while many bindings are under way, one batch at a time is decided
// on a state that more is known of.
func (d *Driver) nextBatch() bool {
	if d.held.After(d.now) || d.underWay() >= d.config.MaxBinding || len(d.outstanding) > 0 && d.underWay() >= d.config.MaxBinding/4 {
		return false
	}
	d.regroup()
	busy := map[string]int{}
	for _, o := range d.outstanding {
		busy[o.SchedulerName]++
	}
	entries := d.queue.Pop(func(g queue.Group) int {
		if p := d.pauses[g.SchedulerName]; p != nil && p.until.After(d.now) {
			return 0
		}
		if busy[g.SchedulerName] >= d.sideBySide(g.SchedulerName) {
			return 0
		}
		if g.Most > 0 {
			return min(g.Most, d.batchSize(g.SchedulerName))
		}
		return d.batchSize(g.SchedulerName)
	}, d.together == nil)
	if len(entries) == 0 {
		return false
	}
	d.batches++
	d.seed++
	name := entries[0].Group.SchedulerName
	request := &berthv1.DecideRequest{
		Pods:    make([]*berthv1.Pod, 0, len(entries)),
		Seed:    scramble(d.seed),
		Preempt: true,
	}
	if d.sideBySide(name) > 1 {
		request.Candidates = moreCandidates
	}
	o := &outstanding{
		Batch: &Batch{
			ID:            d.batches,
			SchedulerName: name,
			Fallback:      entries[0].Group.Fallback,
			Key:           keyOf(d.pods[entries[0].UID].object),
			Epoch:         d.epoch,
			Version:       d.ledger.Version(),
			Request:       request,
			Asked:         d.now,
		},
		since: map[cluster.Change]bool{}, taken: map[string]bool{}, deciders: d.deciders,
	}
	d.outstanding[o.ID] = o
	for _, e := range entries {
		p := d.pods[e.UID]
		d.setPhase(p, deciding)
		p.batch, p.sent = o, p.record
		if e.Together {
			d.together, o.together = o, true
		}
		if len(p.bans) > 0 {
			request.Candidates = moreCandidates
		}
		record := p.record
		if d.ledger.Repelled(p.object) {
			record = proto.CloneOf(record)
			record.Constraints = append(record.Constraints, berthv1.ConstraintExistingAntiAffinity)
			slices.Sort(record.Constraints)
		}
		request.Pods = append(request.Pods, record)
	}
	d.ready.Decide = append(d.ready.Decide, o.Batch)
	return true
}

// keyOf is the same for pods of one controller, which mostly are equal.
func keyOf(pod *corev1.Pod) string {
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		return string(owner.UID)
	}
	return pod.Namespace
}

// sideBySide is how many batches may be outstanding.
func (d *Driver) sideBySide(schedulerName string) int {
	if d.config.OneAtATime[schedulerName] {
		return 1
	}
	return max(1, d.side[schedulerName])
}

// batchSize is how many pods are decided within batchTime.
func (d *Driver) batchSize(schedulerName string) int {
	pace, known := d.pace[schedulerName]
	switch {
	case !known:
		return min(firstBatch, d.config.MaxBatch)
	case pace <= 0:
		return d.config.MaxBatch
	}
	return min(max(1, int(batchTime/pace)), d.config.MaxBatch)
}

// measure notes how long deciding on a batch took: not the wait for those deciders that
// did not answer, which smaller batches would not make any shorter.
func (d *Driver) measure(o *outstanding, took time.Duration) {
	if took <= 0 {
		took = d.now.Sub(o.Asked)
	}
	pace := took / time.Duration(max(1, len(o.Request.GetPods())))
	if before, known := d.pace[o.SchedulerName]; known {
		pace = (before + pace) / 2
	}
	d.pace[o.SchedulerName] = pace
}

// regroup marks the pods that interact with one that has come.
func (d *Driver) regroup() {
	fresh := d.ledger.TakeRelations()
	if len(fresh) == 0 {
		return
	}
	for uid, p := range d.pods {
		if e := d.queue.Get(uid); !e.Together && slices.ContainsFunc(fresh, func(r *cluster.Relation) bool { return r.Selects(p.object) }) {
			d.queue.SetTogether(uid, true)
		}
	}
}

// scramble is splitmix64's output function: neighbouring seeds become unrelated.
func scramble(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// take ends a batch that was handed out; nil if nothing is outstanding under that name.
func (d *Driver) take(id uint64) *outstanding {
	o := d.outstanding[id]
	delete(d.outstanding, id)
	if d.together == o {
		d.together = nil
	}
	return o
}

// decidedIn is the pod of that uid if it still waits for the batch's answer, else nil.
func (d *Driver) decidedIn(o *outstanding, uid string) *pod {
	p := d.pods[types.UID(uid)]
	if p == nil || p.phase != deciding || p.batch != o {
		return nil
	}
	return p
}

// undecided takes back a batch that nobody answered.
func (d *Driver) undecided(o *outstanding, err error) {
	var outage *pause
	if errors.Is(err, ErrNoDecider) {
		outage = d.pause(o.SchedulerName)
	}
	for _, record := range o.Request.GetPods() {
		p := d.decidedIn(o, record.GetUid())
		if p == nil {
			continue
		}
		if p.withdrawn {
			d.leave(p.object.UID)
			continue
		}
		if outage == nil {
			d.reportFailed(p, corev1.PodReasonSchedulerError, err.Error())
			d.shareWith(p, max(len(o.Request.GetPods())/2, 1))
			d.fail(p)
			continue
		}
		if outage.failures >= silentFailures && p.told != outage {
			p.told = outage // once is enough
			d.reportFailed(p, corev1.PodReasonSchedulerError, err.Error())
		}
		d.again(p)
	}
}

// pause keeps the scheduler name's pods back for a while, longer each time in a
// row.
func (d *Driver) pause(schedulerName string) *pause {
	p := d.pauses[schedulerName]
	if p == nil {
		p = &pause{}
		d.pauses[schedulerName] = p
	}
	length := maxPause
	if p.failures < 6 { // 100 ms << 6 is past the maximum
		length = min(minPause<<p.failures, maxPause)
	}
	p.failures++
	p.until = d.now.Add(length)
	return p
}
