package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// limit bounds every wait of these tests.
const limit = 10 * time.Second

// A server answers every line with itself in capitals; lines has what it received, and
// ends how each connection to it ended.
type server struct {
	listener net.Listener
	lines    chan string
	ends     chan error
}

func newServer(t *testing.T) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s := &server{listener: listener, lines: make(chan string, 100), ends: make(chan error, 100)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			s.ends <- err
			return
		}
		s.lines <- line
		fmt.Fprint(conn, strings.ToUpper(line))
	}
}

func newProxy(t *testing.T, target string) *Proxy {
	t.Helper()
	p, err := Listen("127.0.0.1:0", target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// A client is a connection to a proxy.
type client struct {
	*net.TCPConn
	in *bufio.Reader
}

func dial(t *testing.T, p *Proxy) *client {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(limit))
	return &client{conn.(*net.TCPConn), bufio.NewReader(conn)}
}

func (c *client) say(t *testing.T, line string) {
	t.Helper()
	if _, err := fmt.Fprint(c, line); err != nil {
		t.Fatal(err)
	}
}

func (c *client) hear(t *testing.T, want string) {
	t.Helper()
	if got, err := c.in.ReadString('\n'); err != nil || got != want {
		t.Fatalf("heard %q, %v; want %q", got, err, want)
	}
}

// receive returns what arrives on ch.
func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(limit):
		t.Fatalf("%s: nothing arrived", what)
		panic("unreachable")
	}
}

func TestPass(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.listener.Addr().String())
	c := dial(t, p)
	for i := range 3 {
		c.say(t, fmt.Sprintf("line %d\n", i))
		c.hear(t, fmt.Sprintf("LINE %d\n", i))
	}
	c.CloseWrite()
	if err := receive(t, s.ends, "the end"); err != io.EOF {
		t.Errorf("the server saw %v, want EOF", err)
	}
	if _, err := c.in.ReadByte(); err != io.EOF {
		t.Errorf("the client saw %v, want EOF", err)
	}
}

// More than all buffers take is passed on whole to a side that reads slowly, and the
// other side's end arrives after it.
func TestPassMuch(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	const size = 64 << 20
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.CopyN(conn, zeros{}, size)
	}()
	c := dial(t, newProxy(t, listener.Addr().String()))
	if n, err := io.Copy(io.Discard, c.in); err != nil || n != size {
		t.Errorf("%d of %d bytes, %v", n, size, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestDrop(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.listener.Addr().String())
	a, b := dial(t, p), dial(t, p)
	for _, c := range []*client{a, b} {
		c.say(t, "x\n")
		c.hear(t, "X\n")
	}
	if n := p.Drop(); n != 2 {
		t.Errorf("dropped %d, want 2", n)
	}
	for _, c := range []*client{a, b} {
		if _, err := c.in.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client saw %v, want a reset", err)
		}
		if err := receive(t, s.ends, "the end"); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the server saw %v, want a reset", err)
		}
	}
	again := dial(t, p)
	again.say(t, "again\n")
	again.hear(t, "AGAIN\n")
}

// A target that is away shows as a reset.
func TestAway(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	p := newProxy(t, listener.Addr().String())
	conn, err := net.Dial("tcp", p.Address())
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(limit))
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, want a reset", err)
	}
}

func TestHold(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.listener.Addr().String())
	old := dial(t, p)
	old.say(t, "before\n")
	old.hear(t, "BEFORE\n")
	receive(t, s.lines, "before")

	release, second := p.Hold(), p.Hold()
	old.say(t, "old\n")
	young := dial(t, p)
	young.say(t, "young\n")
	second()
	select {
	case <-p.gate():
		t.Error("it is open though one holds it still")
	case line := <-s.lines:
		t.Errorf("%q came through", line)
	default:
	}
	release()
	old.hear(t, "OLD\n")
	young.hear(t, "YOUNG\n")
}

// A connection can be dropped while nothing passes.
func TestDropHeld(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.listener.Addr().String())
	c := dial(t, p)
	c.say(t, "x\n")
	c.hear(t, "X\n")
	defer p.Hold()()
	c.say(t, "held\n")
	p.Drop()
	if _, err := c.in.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, want a reset", err)
	}
}

func TestDelay(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.listener.Addr().String())
	c := dial(t, p)
	const delay = 60 * time.Millisecond
	end := p.Delay(delay)
	began := time.Now()
	c.say(t, "slow\n")
	c.hear(t, "SLOW\n")
	if took := time.Since(began); took < 2*delay {
		t.Errorf("there and back took %v, want %v at least", took, 2*delay)
	}
	end()
	if due := p.due(); time.Until(due) > 0 {
		t.Error("there is still a delay after its end")
	}
}

func TestHalfClose(t *testing.T) {
	for _, toward := range []Side{Client, Server} {
		s := newServer(t)
		p := newProxy(t, s.listener.Addr().String())
		c := dial(t, p)
		c.say(t, "before\n")
		c.hear(t, "BEFORE\n")
		receive(t, s.lines, "before")
		if n := p.HalfClose(toward); n != 1 {
			t.Errorf("%d half closed, want 1", n)
		}
		if n := p.HalfClose(toward); n != 0 {
			t.Errorf("%d half closed again, want 0", n)
		}
		c.say(t, "after\n")
		if toward == Client {
			if _, err := c.in.ReadByte(); err != io.EOF {
				t.Errorf("the client saw %v, want EOF", err)
			}
			if line := receive(t, s.lines, "after"); line != "after\n" {
				t.Errorf("the server got %q", line)
			}
		} else if err := receive(t, s.ends, "the end"); err != io.EOF {
			t.Errorf("the server saw %v, want EOF", err)
		}
	}
}

func TestClose(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.listener.Addr().String())
	c := dial(t, p)
	c.say(t, "x\n")
	c.hear(t, "X\n")
	p.Hold() // never released
	p.Close()
	if n := p.Connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
