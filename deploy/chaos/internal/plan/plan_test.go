package plan

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestDraw(t *testing.T) {
	for seed := range uint64(200) {
		for _, length := range []time.Duration{30 * time.Second, time.Minute, 10 * time.Minute} {
			s := Setting{Seed: seed, Kinds: Kinds, Length: length, Deciders: 3, Watchers: 2}
			faults := Draw(s)
			if !reflect.DeepEqual(faults, Draw(s)) {
				t.Fatalf("seed %d: two plans differ", seed)
			}
			count := map[Kind]int{}
			var last time.Duration
			for _, f := range faults {
				count[f.Kind]++
				if f.At < last || f.At > length*9/10 {
					t.Errorf("seed %d, %v: a fault at %v after %v", seed, length, f.At, last)
				}
				last = f.At
				if most := map[Kind]int{Decider: 3, Proxy: 5}[f.Kind]; f.Target < 0 || f.Target >= max(1, most) {
					t.Errorf("seed %d: target %d of %s", seed, f.Target, f.Kind)
				}
				if (f.How != "") != (f.Kind == Proxy) || (f.Late > 0) != (f.How == Delay) {
					t.Errorf("seed %d: %+v", seed, f)
				}
			}
			for _, kind := range Kinds {
				if count[kind] == 0 {
					t.Errorf("seed %d, %v: no %s", seed, length, kind)
				}
			}
		}
	}
}

func TestSeedsDiffer(t *testing.T) {
	s := Setting{Seed: 1, Kinds: Kinds, Length: time.Minute, Deciders: 3, Watchers: 2}
	first := Draw(s)
	s.Seed = 2
	if reflect.DeepEqual(first, Draw(s)) {
		t.Error("the plans of two seeds are equal")
	}
}

func TestSomeKinds(t *testing.T) {
	for _, f := range Draw(Setting{Kinds: []Kind{Etcd}, Length: time.Minute, Deciders: 1, Watchers: 1}) {
		if f.Kind != Etcd {
			t.Errorf("%s", f)
		}
	}
	if faults := Draw(Setting{Length: time.Minute}); len(faults) > 0 {
		t.Errorf("%v without a kind", faults)
	}
}

func TestParse(t *testing.T) {
	kinds, err := Parse("proxy, etcd")
	if err != nil || !slices.Equal(kinds, []Kind{Proxy, Etcd}) {
		t.Errorf("%v, %v", kinds, err)
	}
	if kinds, err := Parse(""); err != nil || len(kinds) != 0 {
		t.Errorf("%v, %v of nothing", kinds, err)
	}
	for _, bad := range []string{"disk", "etcd,etcd"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
