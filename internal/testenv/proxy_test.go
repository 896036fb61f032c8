package testenv

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo starts a server that sends back every byte.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

// talk sends n bytes through the proxy and returns how many came back.
func talk(t *testing.T, p *Proxy, n int) (int, error) {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	go func() { _, _ = conn.Write(bytes.Repeat([]byte("x"), n)) }()
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return io.ReadFull(conn, make([]byte, n))
}

func TestProxyPassesCutsAndRestores(t *testing.T) {
	p := StartProxy(t, echo(t))
	if n, err := talk(t, p, 1<<20); err != nil {
		t.Fatal(n, err)
	}
	if sent, received := p.Bytes(); sent != 1<<20 || received != 1<<20 {
		t.Errorf("counted %d and %d", sent, received)
	}
	p.Cut()
	if _, err := talk(t, p, 1); err == nil {
		t.Error("it is not cut")
	}
	p.Restore()
	p.CutAfter(100_000)
	if n, err := talk(t, p, 1<<20); n != 100_000 || err == nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
	p.Restore()
	if n, err := talk(t, p, 1000); err != nil {
		t.Error(n, err)
	}
}

func TestProxyIsABlackHole(t *testing.T) {
	p := StartProxy(t, echo(t))
	p.Blackhole()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes, %v", n, err)
	}
	p.Restore()
	if n, err := talk(t, p, 1000); err != nil {
		t.Error(n, err)
	}
}

func TestProxyIsSlow(t *testing.T) {
	p := StartProxy(t, echo(t))
	p.SetRate(1 << 20)
	begin := time.Now()
	if n, err := talk(t, p, 256<<10); err != nil { // half a second, there and back
		t.Fatal(n, err)
	}
	if took := time.Since(begin); took < 400*time.Millisecond {
		t.Errorf("it took only %v", took)
	}
}
