package proxy

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A link is a connection through the proxy.
type link struct {
	ends [2]*net.TCPConn // by Side
	half [2]atomic.Bool  // toward that Side nothing is passed on any more
	end  sync.Once
	done chan struct{} // closed once it was reset
}

// reset ends the connection on both sides, as a host does that knows nothing of it.
func (l *link) reset() { l.endWith(reset) }

// close ends a connection on which both sides have sent all they will.
func (l *link) close() { l.endWith(func(c *net.TCPConn) { c.Close() }) }

func (l *link) endWith(end func(*net.TCPConn)) {
	l.end.Do(func() {
		close(l.done)
		end(l.ends[Client])
		end(l.ends[Server])
	})
}

// reset closes c with a RST, whether or not everything was sent.
func reset(c *net.TCPConn) {
	c.SetLinger(0) // fails where it is closed already, as does the next
	c.Close()
}

// halfClose says whether it was done, and not before.
func (l *link) halfClose(toward Side) bool {
	if l.half[toward].Swap(true) {
		return false
	}
	return l.ends[toward].CloseWrite() == nil
}

// until waits for an instant, wait for a channel to be closed. False means that the
// connection ended first.
func (l *link) until(t time.Time) bool {
	d := time.Until(t)
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.done:
		return false
	}
}

func (l *link) wait(open <-chan struct{}) bool {
	select {
	case <-open:
		return true
	case <-l.done:
		return false
	}
}
