package model_test

import (
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/internal/model"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

func node(name string, allocatable map[string]int64) *berthv1.Changes {
	return &berthv1.Changes{Nodes: []*berthv1.Node{{Name: name, Allocatable: allocatable}}}
}

// Pods of a kind are what they would be decoded each on its own.
func TestApplyLike(t *testing.T) {
	kind := &berthv1.PlacedPod{
		Namespace: "a", Labels: map[string]string{"app": "web"}, Requests: map[string]int64{"cpu": 1, "example.com/gpu": 2},
		HostPorts:   []*berthv1.HostPort{{Port: 80}},
		PodAffinity: &berthv1.PodAffinity{Required: []*berthv1.PodAffinityTerm{{TopologyKey: "zone"}}},
	}
	for name, change := range map[string]func(*berthv1.PlacedPod){
		"valid":          func(*berthv1.PlacedPod) {},
		"not understood": func(p *berthv1.PlacedPod) { p.Constraints = []string{"Quantum"} },
		"nominated":      func(p *berthv1.PlacedPod) { p.Nominated = true },
		"senseless":      func(p *berthv1.PlacedPod) { p.Requests["cpu"] = -1 },
	} {
		kind := proto.CloneOf(kind)
		change(kind)
		changes := node("n", nil)
		var kinds []*berthv1.PlacedPod
		for i, uid := range []string{"u", "v", "w"} {
			p := proto.CloneOf(kind)
			p.Uid, p.Name, p.NodeName, p.StartTimeNanos = uid, "pod-"+uid, "n", int64(i)
			changes.PlacedPods, kinds = append(changes.PlacedPods, p), append(kinds, kind)
		}
		got, want := model.New(nil), model.New(nil)
		gotRejected, wantRejected := got.ApplyLike(changes, kinds), want.Apply(changes)
		if !reflect.DeepEqual(gotRejected, wantRejected) {
			t.Errorf("%s: %v, want %v", name, gotRejected, wantRejected)
		}
		g, w := got.Node("n"), want.Node("n")
		if len(w.Pods)+len(w.Nominated) == 0 && w.Understood {
			t.Errorf("%s: no pod is on the node", name)
		}
		if !reflect.DeepEqual(g.Pods, w.Pods) || !reflect.DeepEqual(g.Nominated, w.Nominated) || g.Requested.Of(model.CPU) != w.Requested.Of(model.CPU) ||
			g.Understood != w.Understood || g.Problem != w.Problem || g.Unknown != w.Unknown {
			t.Errorf("%s: %+v, want %+v", name, g, w)
		}
	}
}

func TestNewPodLike(t *testing.T) {
	s := model.New(nil)
	s.Apply(node("n", map[string]int64{"cpu": 1}))
	record := func(uid string) *berthv1.Pod {
		return &berthv1.Pod{Uid: uid, Name: "pod-" + uid, Requests: map[string]int64{"cpu": 1, "example.com/gpu": 2}}
	}
	kind := record("")
	if p := s.NewPodLike(record("a"), kind); p != nil {
		t.Errorf("%v is like a pod that nobody has remembered", p)
	}
	decode := func(uid string) *model.Pod {
		p, err := s.NewPod(record(uid))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	s.Remember(decode("a"), kind)
	if got, want := s.NewPodLike(record("b"), kind), decode("b"); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if p := s.NewPodLike(record(""), kind); p != nil {
		t.Errorf("%v, which has no uid", p)
	}
	s.Apply(node("m", map[string]int64{"example.com/gpu": 1}))
	if p := s.NewPodLike(record("c"), kind); p != nil {
		t.Errorf("%v: what it asks for has a number now", p)
	}
}
