package kube

import "sync"

// precedence lets what can wait at the API server, which is Events, give way to what
// pods and their owners wait for: bindings and conditions. Both cost the API server the
// same, and it serves whatever arrives, so that whoever has more requests under way
// gets more of it.
type precedence struct {
	mu sync.Mutex
	// changed is told when giveWay may end.
	changed *sync.Cond
	urgent  int  // under way
	off     bool // nobody gives way for now
	closed  bool // nor ever again
}

// busy is from how many urgent requests under way on the API server counts as busy. A
// cluster in which pods come one by one has one or two.
const busy = 8

func newPrecedence() *precedence {
	p := &precedence{}
	p.changed = sync.NewCond(&p.mu)
	return p
}

// begin says that an urgent request begins; end must be called when it is over.
func (p *precedence) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.urgent++
}

func (p *precedence) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.urgent--; p.urgent == busy-1 {
		p.changed.Broadcast()
	}
}

// suspend says whether for now nobody needs to give way.
func (p *precedence) suspend(off bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off != off {
		p.off = off
		p.changed.Broadcast()
	}
}

// close ends all waiting for good.
func (p *precedence) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.changed.Broadcast()
}

// giveWay waits until the API server is not busy.
func (p *precedence) giveWay() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.urgent >= busy && !p.off && !p.closed {
		p.changed.Wait()
	}
}
