package testenv

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy passes TCP connections on, and can be slow, cut, or a black hole.
type Proxy struct {
	tb       testing.TB
	addr     string
	running  sync.WaitGroup
	sent     int64 // bytes that went to the target
	received int64 // bytes that came from it

	mu       sync.Mutex
	target   string
	listener net.Listener // nil while it refuses
	conns    map[net.Conn]bool
	closed   bool
	rate     int64     // bytes per second of all connections in both directions; 0 for no limit
	next     time.Time // when the next byte may pass
	swallow  bool
	cutAfter int64 // bytes until everything is cut; below 0 never
}

// StartProxy starts a proxy that ends with the test.
func StartProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	p := &Proxy{tb: tb, target: target, addr: "127.0.0.1:0", conns: map[net.Conn]bool{}, cutAfter: -1}
	if err := p.listen(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.close)
	return p
}

// Addr returns the address of the proxy.
func (p *Proxy) Addr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// Bytes returns how many bytes went to the target, and came from it.
func (p *Proxy) Bytes() (sent, received int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent, p.received
}

// SetRate limits the bytes per second of all connections and both directions together; 0 lifts the limit.
func (p *Proxy) SetRate(bytesPerSecond int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate, p.next = bytesPerSecond, time.Time{}
}

// Cut closes all connections and refuses new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

// CutAfter cuts once n more bytes have come from the target.
func (p *Proxy) CutAfter(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutAfter = n
}

// Retarget passes connections on to another target from now on, and closes those that there are.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	p.closeConns()
}

// Blackhole accepts connections and bytes, and passes nothing on.
func (p *Proxy) Blackhole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow = true
}

// Restore undoes Cut, CutAfter and Blackhole. Bytes in a black hole stay lost: their connections are closed.
func (p *Proxy) Restore() {
	p.tb.Helper()
	p.mu.Lock()
	p.cutAfter = -1
	if p.swallow {
		p.closeConns()
	}
	p.swallow = false
	refuses := p.listener == nil
	p.mu.Unlock()
	if refuses {
		if err := p.listen(); err != nil {
			p.tb.Fatal(err)
		}
	}
}

func (p *Proxy) listen() error {
	l, err := net.Listen("tcp", p.Addr())
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.listener, p.addr = l, l.Addr().String()
	p.mu.Unlock()
	p.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if p.add(conn) {
				p.running.Go(func() { p.serve(conn) })
			}
		}
	})
	return nil
}

func (p *Proxy) add(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.listener == nil {
		_ = conn.Close()
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *Proxy) drop(conn net.Conn) {
	_ = conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

func (p *Proxy) serve(conn net.Conn) {
	defer p.drop(conn)
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	back, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	if !p.add(back) {
		return
	}
	defer p.drop(back)
	var both sync.WaitGroup
	both.Go(func() { p.pass(back, conn, &p.sent) })
	both.Go(func() { p.pass(conn, back, &p.received) })
	both.Wait()
}

// pass copies one direction until an end closes or the connection is cut.
func (p *Proxy) pass(to, from net.Conn, count *int64) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			n, on := p.admit(int64(n), count)
			if n > 0 {
				if _, err := to.Write(buf[:n]); err != nil {
					_ = from.Close()
					return
				}
			}
			if !on {
				p.Cut()
				return
			}
		}
		if err != nil {
			if tcp, ok := to.(*net.TCPConn); ok && errors.Is(err, io.EOF) && !p.swallows() {
				_ = tcp.CloseWrite()
				return
			}
			if !p.swallows() {
				_ = to.Close()
			}
			return
		}
	}
}

// admit waits until n bytes may pass. It returns how many of them do, and false when everything is cut after them.
func (p *Proxy) admit(n int64, count *int64) (int64, bool) {
	p.mu.Lock()
	if p.swallow {
		p.mu.Unlock()
		return 0, true
	}
	on := true
	if p.cutAfter >= 0 && count == &p.received {
		n = min(n, p.cutAfter)
		if p.cutAfter -= n; p.cutAfter == 0 {
			on = false
		}
	}
	*count += n
	var wait time.Duration
	if p.rate > 0 {
		now := time.Now()
		if p.next.Before(now) {
			p.next = now
		}
		p.next = p.next.Add(time.Duration(n * int64(time.Second) / p.rate))
		wait = p.next.Sub(now)
	}
	p.mu.Unlock()
	time.Sleep(wait)
	return n, on
}

func (p *Proxy) swallows() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.swallow
}

func (p *Proxy) cut() {
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.closeConns()
}

func (p *Proxy) closeConns() {
	for conn := range p.conns {
		_ = conn.Close()
	}
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.cut()
	p.mu.Unlock()
	p.running.Wait()
}
