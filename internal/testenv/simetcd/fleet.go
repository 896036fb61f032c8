package simetcd

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// connectionsOfEach is how many connections one process takes: many may open no more than 20,000 files.
const connectionsOfEach = 15_000

// role is the variable that makes a test program serve etcds; its value is the file of their snapshot, or "none".
const role = "SNAPSHOTD_SIMULATED_ETCDS"

// Main serves etcds and does not return, when [Start] has started this process. A program of tests that calls Start
// calls it first, in TestMain.
func Main() {
	file := os.Getenv(role)
	if file == "" {
		return
	}
	if err := serve(file, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "simulated etcds:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Fleet is a number of etcds.
type Fleet struct {
	n         int
	processes []process
}

type process struct{ Port, Control int }

// Start starts n etcds, to each of which a number of connections is made. They end with the test. snapshot is what each
// of them gives, with its checksum as etcd sends it; nil for none.
func Start(tb testing.TB, n, connections int, snapshot []byte) *Fleet {
	tb.Helper()
	file := "none"
	if snapshot != nil {
		file = filepath.Join(tb.TempDir(), "snapshot.db")
		if err := os.WriteFile(file, snapshot, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	f := &Fleet{n: n}
	for range max(1, (n*connections+connectionsOfEach-1)/connectionsOfEach) {
		f.processes = append(f.processes, startProcess(tb, file))
	}
	return f
}

func startProcess(tb testing.TB, file string) (p process) {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), role+"="+file), os.Stderr
	in, err := cmd.StdinPipe() // it ends with this pipe, and so with this process
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			tb.Errorf("simulated etcds: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p)
	}
	if err != nil {
		tb.Fatalf("simulated etcds did not start: %v", err)
	}
	return p
}

// URL returns the address of an etcd.
func (f *Fleet) URL(i int) string {
	const octet = 250 // of an address, from 1 on
	return fmt.Sprintf("http://127.%d.%d.%d:%d",
		i/octet/octet+1, i/octet%octet+1, i%octet+1, f.processes[i%len(f.processes)].Port)
}

// Ports returns the ports of all addresses.
func (f *Fleet) Ports() (all []int) {
	for _, p := range f.processes {
		all = append(all, p.Port)
	}
	return all
}

// Leaders returns how many clusters each replica leads.
func (f *Fleet) Leaders(tb testing.TB) map[string]int {
	tb.Helper()
	of := map[string]int{}
	for _, p := range f.processes {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/leader", p.Control))
		if err != nil {
			tb.Fatal(err)
		}
		some := map[string]int{}
		err = json.NewDecoder(resp.Body).Decode(&some)
		_ = resp.Body.Close()
		if err != nil {
			tb.Fatal(err)
		}
		for value, n := range some {
			of[value] += n
		}
	}
	return of
}

// serve serves etcds on all addresses of this machine's own network until the standard input ends.
func serve(file string, out io.Writer) error {
	s := &etcds{of: map[string]*etcd{}}
	if file != "none" {
		var err error
		if s.snapshot, err = os.ReadFile(file); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	failed := make(chan error, 3)
	go func() { failed <- s.serve(local{l}) }()
	go func() { failed <- http.Serve(control, http.HandlerFunc(s.count)) }()
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- err
	}()
	go func() {
		for now := range time.Tick(time.Second) {
			for _, e := range s.all() {
				e.expire(now)
			}
		}
	}()
	if err := json.NewEncoder(out).Encode(process{port(l), port(control)}); err != nil {
		return err
	}
	return <-failed
}

func port(l net.Listener) int {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// local accepts connections of this machine alone.
type local struct{ net.Listener }

func (l local) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if a, ok := c.LocalAddr().(*net.TCPAddr); ok && a.IP.IsLoopback() {
			return c, nil
		}
		_ = c.Close()
	}
}

// count tells how often each value is under a key that ends as the path does, up to the first space of the value.
func (s *etcds) count(w http.ResponseWriter, r *http.Request) {
	of := map[string]int{}
	for _, e := range s.all() {
		e.mu.Lock()
		for _, key := range e.keys {
			if kv := e.at(key, e.revision); kv != nil && strings.HasSuffix(key, r.URL.Path) {
				value, _, _ := bytes.Cut(kv.Value, []byte(" "))
				of[string(value)]++
			}
		}
		e.mu.Unlock()
	}
	if err := json.NewEncoder(w).Encode(of); err != nil && !errors.Is(err, http.ErrHandlerTimeout) {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
