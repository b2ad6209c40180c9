package service_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// fuzzSeeds are requests that are understood and requests that are not.
func fuzzSeeds(t testing.TB) []*berthv1.DecideRequest {
	good := request(t,
		"a cpu=4 memory=8Gi zone=z1 taint=gpu=yes:NoSchedule\nb cpu=2 constraint=Quantum\nc\nweb on=a cpu=1 port=80\nnext on=c cpu=1 nominated",
		"p cpu=1 toleration=gpu affinity=zone:In:z1|metadata.name:In:b\nq port=80 selector=zone=z2\nr constraint=VolumeBinding")
	crowded := request(t,
		"a zone=z1 cpu=2 taint=slow:PreferNoSchedule image:i=1Gi signal:load=2 feature=F\nb zone=z2 cpu=2\nc cpu=1\n"+
			"namespace n team=x\nbudget n/b selector=app=w allowed=1 disrupted=v\n"+
			"v on=a cpu=1 namespace=n label:app=w start=1 pod-anti-affinity=zone:app=p;namespace-selector=team=x prefer-pod=7:zone:app=p\n"+
			"w on=b cpu=2 namespace=n label:app=w start=2 constraint=Quantum\nx on=a cpu=1 namespace=n label:app=w terminating preempted",
		"p cpu=2 namespace=n priority=5 label:app=p nominated-node=b pod-affinity=zone:app=w feature=F prefer-no-pod=3:zone:app:Exists\n"+
			"q cpu=1 namespace=n priority=4 label:app=w spread=zone:1:DoNotSchedule:app=w;min=2;taints=Honor;keys=app spread=zone:1:ScheduleAnyway:app=w\n"+
			"r image=i namespace=n label:app=w spread-selector=app=w prefer=5:zone:Exists preemption=Never affinity=metadata.name:In:a placed-score-cpu=1")
	crowded.Preempt, crowded.Explanation, crowded.Candidates = true, berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES, 2
	bad := request(t, "a\nb", "p cpu=-1\np\nq port=99999")
	bad.Pods = append(bad.Pods, &berthv1.Pod{})
	twice := request(t, "a\na", "p")
	whatIf := request(t, "a cpu=1\nb cpu=2\nweb on=a cpu=1", "p cpu=2\nq cpu=1")
	whatIf.Hypothetical = cluster(t, "c cpu=4\na cpu=3 taint=x:NoSchedule\ndb on=c cpu=1\nnamespace n\nbudget n/b selector=app=w allowed=1")
	whatIf.Hypothetical.RemovedNodes = []string{"b", "nowhere"}
	return []*berthv1.DecideRequest{good, crowded, bad, twice, whatIf, {State: &berthv1.DecideRequest_Reference{}}, {}}
}

// FuzzDecideBinary and FuzzDecideJSON: whatever can be decoded is answered, pod by
// pod and always alike or with a code of the contract, and what is refused names the
// field.
func FuzzDecideBinary(f *testing.F) {
	for _, r := range fuzzSeeds(f) {
		encoded, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		r := &berthv1.DecideRequest{}
		if proto.Unmarshal(encoded, r) == nil {
			checkAnswer(t, r)
		}
	})
}

func FuzzDecideJSON(f *testing.F) {
	for _, r := range fuzzSeeds(f) {
		f.Add(protojson.Format(r))
	}
	f.Fuzz(func(t *testing.T, encoded string) {
		r := &berthv1.DecideRequest{}
		if protojson.Unmarshal([]byte(encoded), r) == nil {
			checkAnswer(t, r)
		}
	})
}

func checkAnswer(t *testing.T, r *berthv1.DecideRequest) {
	s, err := service.New(service.Config{Policy: policy.Default()})
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.Decide(t.Context(), r)
	switch status.Code(err) {
	case codes.OK:
	case codes.InvalidArgument, codes.FailedPrecondition:
		if field, _, ok := strings.Cut(status.Convert(err).Message(), ": "); !ok || field == "" {
			t.Fatalf("%v names no field", err)
		}
		return
	default:
		t.Fatal(err)
	}
	if len(response.Decisions) != len(r.Pods) {
		t.Fatalf("%d decisions for %d pods", len(response.Decisions), len(r.Pods))
	}
	if again, err := s.Decide(t.Context(), r); err != nil || !proto.Equal(response, again) {
		t.Fatalf("asked twice: %v\nand %v, %v", response, again, err)
	}
	names := map[string]bool{}
	for _, n := range r.GetSnapshot().GetNodes() {
		names[n.GetName()] = true
	}
	for _, n := range r.GetHypothetical().GetNodes() {
		names[n.GetName()] = true
	}
	for i, d := range response.Decisions {
		if d.GetPodUid() != r.Pods[i].GetUid() {
			t.Fatalf("decision %d is for %q, want %q", i, d.GetPodUid(), r.Pods[i].GetUid())
		}
		switch d.GetOutcome() {
		case berthv1.Outcome_OUTCOME_PLACED:
			for _, c := range d.GetCandidates() {
				if !names[c.GetNodeName()] {
					t.Fatalf("pod %d is placed on %q, which is not there", i, c.GetNodeName())
				}
			}
			if len(d.GetCandidates()) == 0 {
				t.Fatalf("pod %d is placed nowhere", i)
			}
		case berthv1.Outcome_OUTCOME_REJECTED:
			if d.GetRejection().GetMessage() == "" {
				t.Fatalf("pod %d is rejected without a word", i)
			}
			if p := d.GetPreemption(); p != nil && (!r.GetPreempt() || !names[p.GetNodeName()] || len(p.GetVictims()) == 0) {
				t.Fatalf("pod %d preempts %v", i, p)
			}
		case berthv1.Outcome_OUTCOME_INVALID:
			if !strings.HasPrefix(d.GetRefusal().GetField(), "pods[") {
				t.Fatalf("pod %d is invalid and %q is no field", i, d.GetRefusal().GetField())
			}
		case berthv1.Outcome_OUTCOME_UNSUPPORTED:
			if d.GetRefusal().GetConstraint() == "" {
				t.Fatalf("pod %d has a constraint without a name that is not understood", i)
			}
		default:
			t.Fatalf("pod %d: %v", i, d.GetOutcome())
		}
	}
}
