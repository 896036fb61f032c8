package stall

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const limit = time.Minute

// pipeServer serves one request on a connection without any buffer, in virtual time.
func pipeServer(t *testing.T, serve func(net.Conn, *http.Request)) *Client {
	t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true, WriteBufferSize: 1 << 10,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() {
				defer func() { _ = server.Close() }()
				if req, err := http.ReadRequest(bufio.NewReaderSize(server, 16)); err == nil {
					serve(server, req)
				}
			}()
			return client, nil
		},
	}
	return &Client{
		HTTP: &http.Client{Transport: transport}, Limit: limit,
		Slow: func(r *http.Request) bool { return r.Method == http.MethodPost },
	}
}

func request(t *testing.T, ctx context.Context, method, query string, size int) *http.Request { //nolint:revive // t first, as everywhere
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://server/bucket/key?"+query, strings.NewReader(strings.Repeat("x", size)))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

const answer = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"

func TestSlowRequestsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipeServer(t, func(conn net.Conn, req *http.Request) {
			buf := make([]byte, 32<<10) // as much as is taken from a body at once
			for err := error(nil); err == nil; _, err = io.ReadFull(req.Body, buf) {
				time.Sleep(limit * 4 / 10)
			}
			_, _ = io.WriteString(conn, answer)
			for range 20 {
				time.Sleep(limit * 9 / 10)
				_, _ = io.WriteString(conn, "y")
			}
		})
		begin := time.Now()
		resp, err := c.Do(request(t, t.Context(), http.MethodPut, "", 640<<10))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * limit) // the reader may be slow, too
		b, err := io.ReadAll(resp.Body)
		if err != nil || len(b) != 20 {
			t.Errorf("got %d bytes, %v", len(b), err)
		}
		_ = resp.Body.Close()
		if took := time.Since(begin); took < 20*limit {
			t.Errorf("it took only %v", took)
		}
	})
}

func TestStuckRequestsEnd(t *testing.T) {
	forever := func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) } // until the client goes
	for name, serve := range map[string]func(net.Conn, *http.Request){
		"takes nothing": func(conn net.Conn, _ *http.Request) { time.Sleep(time.Hour); _ = conn.Close() },
		"answers nothing": func(conn net.Conn, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			forever(conn)
		},
		"answers half": func(conn net.Conn, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(conn, answer+"half")
			forever(conn)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				resp, err := pipeServer(t, serve).Do(request(t, t.Context(), http.MethodPut, "", 20<<10))
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
				}
				if _, stalled := errors.AsType[*Error](err); !stalled {
					t.Errorf("got %v, want a stall", err)
				}
				if took := time.Since(begin); took != limit {
					t.Errorf("it took %v, want %v", took, limit)
				}
				time.Sleep(time.Hour) // the server's end
			})
		})
	}
}

// A document that comes byte by byte moves, and has to end all the same; so has any refusal.
func TestShortAnswersEnd(t *testing.T) {
	for status, short := range map[string]bool{"200 OK": true, "503 Service Unavailable": false} {
		synctest.Test(t, func(t *testing.T) {
			c := pipeServer(t, func(conn net.Conn, req *http.Request) {
				_, _ = io.Copy(io.Discard, req.Body)
				_, err := io.WriteString(conn, "HTTP/1.1 "+status+"\r\nContent-Length: 1000000\r\n\r\n")
				for err == nil {
					time.Sleep(limit / 2)
					_, err = io.WriteString(conn, "y")
				}
			})
			c.Short = func(*http.Request) bool { return short }
			begin := time.Now()
			resp, err := c.Do(request(t, t.Context(), http.MethodGet, "", 0))
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if _, slow := errors.AsType[*Error](err); !slow || time.Since(begin) > (slowFactor+1)*limit {
				t.Errorf("%s: got %v after %v", status, err, time.Since(begin))
			}
			time.Sleep(time.Hour) // the server's end
		})
	}
}

func TestSlowAnswersMayTakeLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipeServer(t, func(conn net.Conn, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			time.Sleep(4 * limit)
			_, _ = io.WriteString(conn, answer+strings.Repeat("y", 20))
		})
		resp, err := c.Do(request(t, t.Context(), http.MethodPost, "uploadId=1", 100))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	})
}

// TestWritesAreNotCancelledHalfWay: when all was sent of what writes, its end is waited for, but not for ever.
func TestWritesAreNotCancelledHalfWay(t *testing.T) {
	for _, test := range []struct {
		name, method, query string
		answers             time.Duration // after the cancel
		want                error
		after               time.Duration
	}{
		{"object", http.MethodPut, "", writeGrace / 2, nil, writeGrace / 2},
		{"complete", http.MethodPost, "uploadId=1", writeGrace / 2, nil, writeGrace / 2},
		{"too late", http.MethodPut, "", 2 * writeGrace, context.Canceled, writeGrace},
		{"part", http.MethodPut, "partNumber=1&uploadId=1", writeGrace / 2, nil, writeGrace / 2},
		{"reads", http.MethodGet, "", writeGrace / 2, context.Canceled, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var cancelled time.Time
				c := pipeServer(t, func(conn net.Conn, req *http.Request) {
					_, _ = io.Copy(io.Discard, req.Body)
					time.Sleep(time.Second)
					cancelled = time.Now()
					cancel()
					time.Sleep(test.answers)
					_, _ = io.WriteString(conn, answer+strings.Repeat("y", 20))
				})
				resp, err := c.Do(request(t, ctx, test.method, test.query, 100))
				if !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				if err == nil {
					_ = resp.Body.Close()
				}
				if took := time.Since(cancelled); took != test.after {
					t.Errorf("it took %v after the cancel, want %v", took, test.after)
				}
				time.Sleep(time.Hour) // the server's end
			})
		})
	}
}
