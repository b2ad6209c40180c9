package remote

import (
	"context"
	"maps"
)

// tellCapacity calls Config.Capacity until ctx ends.
func (p *Pool) tellCapacity(ctx context.Context) {
	var told map[string]int
	for {
		moved := p.motion()
		if now := p.capacity(); !maps.Equal(now, told) {
			p.config.Capacity(maps.Clone(now))
			told = now
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// capacity is how many batches may be outstanding, by scheduler name: one for each
// reachable replica of the first decider that has any, and 1 if there is none or that
// decider is serial.
func (p *Pool) capacity() map[string]int {
	batches := make(map[string]int, len(p.names))
	for name, targets := range p.names {
		batches[name] = 1
		for _, t := range targets {
			if reachable := t.reachable(); len(reachable) > 0 {
				if !serial(reachable) {
					batches[name] = processes(reachable)
				}
				break
			}
		}
	}
	return batches
}

// serial says whether one of the replicas is: the others are of other builds, then, or
// configured otherwise, and will be like it or it like them before long.
func serial(replicas []*replica) bool {
	for _, r := range replicas {
		if described, _ := r.get(); described.GetLimits().GetSerial() {
			return true
		}
	}
	return false
}

// processes counts those that are there under several addresses once.
func processes(replicas []*replica) int {
	n, seen := 0, map[string]bool{}
	for _, r := range replicas {
		described, _ := r.get()
		if id := described.GetInstanceId(); id == "" || !seen[id] {
			n++
			seen[id] = true
		}
	}
	return max(n, 1)
}
