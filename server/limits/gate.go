package limits

import (
	"container/list"
	"net"
	"sync"
)

// Gate lets connections in, up to a number over all ports. When it is full, a new connection takes the place of the
// oldest one whose caller is not known: those that connect and say nothing keep nobody out.
type Gate struct {
	closed func() // told of each connection that is turned away or gives way

	mu      sync.Mutex
	most    int
	open    int
	unknown list.List // of *conn, the oldest first
}

// NewGate returns a gate for so many connections. It tells closed of each one that it ends.
func NewGate(most int, closed func()) *Gate { return &Gate{most: most, closed: closed} }

// Set changes how many connections may be open. Those beyond it stay until they end.
func (g *Gate) Set(most int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.most = most
}

// Open returns how many connections are open.
func (g *Gate) Open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// Listener returns a listener behind the gate.
func (g *Gate) Listener(ln net.Listener) net.Listener { return listener{ln, g} }

type listener struct {
	net.Listener
	gate *Gate
}

// Accept implements [net.Listener].
func (l listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if in := l.gate.enter(c); in != nil {
			return in, nil
		}
		_ = c.Close() // it is not ours to keep
		l.gate.closed()
	}
}

// enter returns the connection as it goes on; nil when there is no place for it.
func (g *Gate) enter(c net.Conn) *conn {
	in := &conn{Conn: c, gate: g}
	g.mu.Lock()
	var gone *conn
	if g.open >= g.most {
		oldest := g.unknown.Front()
		if oldest == nil {
			g.mu.Unlock()
			return nil
		}
		gone = oldest.Value.(*conn) // nothing else is in the list
		g.leave(gone)
	}
	g.open++
	in.place = g.unknown.PushBack(in)
	g.mu.Unlock()
	if gone != nil {
		_ = gone.Conn.Close() // whoever reads from it ends with an error
		g.closed()
	}
	return in
}

// leave takes a connection out of the count, once. g.mu is held.
func (g *Gate) leave(c *conn) {
	if c.left {
		return
	}
	c.left = true
	g.open--
	g.forget(c)
}

// forget takes a connection out of those whose caller is not known. g.mu is held.
func (g *Gate) forget(c *conn) {
	if c.place != nil {
		g.unknown.Remove(c.place)
		c.place = nil
	}
}

// conn is a connection that has passed the gate.
type conn struct {
	net.Conn
	gate  *Gate
	place *list.Element // among those whose caller is not known; nil once it is
	left  bool
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.gate.mu.Lock()
	c.gate.leave(c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// RemoteAddr implements [net.Conn]. The address leads back to the connection, also through TLS and the libraries of the
// protocols, which hand on nothing else of it.
func (c *conn) RemoteAddr() net.Addr { return Addr{c.Conn.RemoteAddr(), c} }

// Addr is the remote address of a connection that has passed a gate.
type Addr struct {
	net.Addr
	conn *conn
}

// Known notes that the caller at an address has shown who it is: its connection keeps its place. It does nothing for
// addresses of other connections.
func Known(addr net.Addr) {
	a, ok := addr.(Addr)
	if !ok {
		return
	}
	a.conn.gate.mu.Lock()
	defer a.conn.gate.mu.Unlock()
	a.conn.gate.forget(a.conn)
}

// Unwrap returns an address as it was before the gate.
func Unwrap(addr net.Addr) net.Addr {
	if a, ok := addr.(Addr); ok {
		return a.Addr
	}
	return addr
}
