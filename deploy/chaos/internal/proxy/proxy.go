// Package proxy is a TCP proxy that breaks the connections through it when it is
// told to.
package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// A Proxy passes on what it receives to one address, and what comes back. It may be
// used by several goroutines at once.
type Proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup // the goroutines that it started

	mu     sync.Mutex // guards what follows
	links  map[*link]struct{}
	held   int           // how many have called Hold and not released it yet
	open   chan struct{} // closed while held is 0
	delay  time.Duration // sum of what Delay was called with and not ended yet
	closed bool
}

// bufferBytes is how much is read at once, and chunks how many of such pieces may be
// under way in one direction of a connection; then its sender has to wait.
const (
	bufferBytes = 32 << 10
	chunks      = 64
)

// Listen starts a proxy on address that connects to target. It need not be there yet:
// a connection to it that fails is reset on the other side.
func Listen(address, target string) (*Proxy, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, target: target, links: map[*link]struct{}{}, open: make(chan struct{})}
	close(p.open)
	p.wg.Go(p.accept)
	return p, nil
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Close ends the proxy and its connections, and returns when nothing of it runs.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.listener.Close()
	p.Drop()
	p.wg.Wait()
}

// Drop resets all connections (RST, on both sides) and returns how many those were.
func (p *Proxy) Drop() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
	return len(p.links)
}

// Hold lets nothing pass, in either direction, as a network that loses everything.
// Connections stay open, and new ones are accepted. What was sent meanwhile arrives
// when all who called Hold have called what it returned, once each.
func (p *Proxy) Hold() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held++; p.held == 1 {
		p.open = make(chan struct{})
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.held--; p.held == 0 {
			close(p.open)
		}
	}
}

// Delay lets everything that is read from now on arrive so much later, in each
// direction, until the returned function is called, once. Delays add up.
func (p *Proxy) Delay(d time.Duration) (end func()) {
	add := func(d time.Duration) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.delay += d
	}
	add(d)
	return func() { add(-d) }
}

// A Side is one of the two that a connection has.
type Side int

// The sides.
const (
	Client Side = iota
	Server
)

// HalfClose tells one side of every connection that the other will send no more (FIN),
// and drops what the other still sends. The other direction goes on. It returns how
// many connections those were.
func (p *Proxy) HalfClose(toward Side) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for l := range p.links {
		if l.halfClose(toward) {
			n++
		}
	}
	return n
}

// Connections is how many there are now.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// due is when what was read just now may arrive.
func (p *Proxy) due() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.delay)
}

// gate is closed, as a channel, while things may pass.
func (p *Proxy) gate() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the client has gone before it was accepted
		}
		p.wg.Go(func() { p.serve(conn.(*net.TCPConn)) })
	}
}

// serve connects a client to the target, and returns when the connection has ended.
func (p *Proxy) serve(client *net.TCPConn) {
	conn, err := net.Dial("tcp", p.target)
	if err != nil {
		reset(client)
		return
	}
	l := &link{ends: [2]*net.TCPConn{client, conn.(*net.TCPConn)}, done: make(chan struct{})}
	p.mu.Lock()
	if p.closed {
		l.reset()
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()

	var wg sync.WaitGroup
	wg.Go(func() { p.pass(l, Client) })
	p.pass(l, Server)
	wg.Wait()
	l.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// pass carries what one side's opposite sends to it, in order, until either has ended.
func (p *Proxy) pass(l *link, toward Side) {
	type chunk struct {
		data []byte
		due  time.Time
	}
	from, to := l.ends[1-toward], l.ends[toward]
	queue := make(chan chunk, chunks)
	var wg sync.WaitGroup
	wg.Go(func() {
		for c := range queue {
			if !l.until(c.due) || !l.wait(p.gate()) || l.half[toward].Load() {
				continue
			}
			if _, err := to.Write(c.data); err != nil && !l.half[toward].Load() {
				l.reset()
			}
		}
	})
	for {
		data := make([]byte, bufferBytes)
		n, err := from.Read(data)
		if n > 0 {
			queue <- chunk{data[:n], p.due()}
		}
		if err != nil {
			close(queue)
			wg.Wait()
			if errors.Is(err, io.EOF) {
				to.CloseWrite() // fails where it is gone
			} else {
				l.reset()
			}
			return
		}
	}
}
