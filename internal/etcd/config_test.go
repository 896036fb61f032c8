package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

func TestNewSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cfg  etcd.Config
		want string // empty: nothing is wrong
	}{
		{etcd.Config{}, "there are none"},
		{etcd.Config{Endpoints: []string{"a:2379", "b:2379"}}, ""},
		{etcd.Config{Endpoints: []string{"https://a:2379/", " https://[::1]:2379 "}, CACert: "ca"}, ""},
		{etcd.Config{Endpoints: []string{"unix:///run/etcd.sock"}}, ""},
		{etcd.Config{Endpoints: []string{"unixs:///run/etcd.sock"}, CACert: "ca"}, ""},
		{etcd.Config{DiscoverySRV: "example.com", DiscoverySRVName: "x"}, ""},
		{etcd.Config{Endpoints: []string{"a"}}, `"a" is not HOST:PORT`},
		{etcd.Config{Endpoints: []string{"https://a"}}, `"https://a" is not HOST:PORT`},
		{etcd.Config{Endpoints: []string{""}}, "is not HOST:PORT"},
		{etcd.Config{Endpoints: []string{":2379"}}, "is not HOST:PORT"},
		{etcd.Config{Endpoints: []string{"ftp://a:1"}}, `scheme "ftp"`},
		{etcd.Config{Endpoints: []string{"unix:"}}, "names no socket"},
		{etcd.Config{Endpoints: []string{"http://a:1/v3"}}, "has a path; write http://a:1"},
		{etcd.Config{Endpoints: []string{"http://a:1", "https://b:1"}}, "mix TLS and plain text"},
		{etcd.Config{Endpoints: []string{"http://a:1"}, CACert: "ca"}, "the CA or certificate would not be used"},
		{etcd.Config{Endpoints: []string{"a:1"}, Cert: "c"}, `certificate "c" and key ""`},
		{etcd.Config{Endpoints: []string{"a:1"}, User: "u"}, `user "u" has none`},
		{etcd.Config{Endpoints: []string{"a:1"}, Password: "secret"}, "there is a password and no user"},
		{etcd.Config{Endpoints: []string{"a:1"}, DiscoverySRV: "d"}, "keep one"},
		{etcd.Config{Endpoints: []string{"a:1"}, DiscoverySRVName: "n"}, "needs a domain"},
		{etcd.Config{Endpoints: []string{"a:1"}, DialTimeout: -1}, "negative"},
		{etcd.Config{Endpoints: []string{"https://root:secret@a:1"}}, "carries a user"},
		{etcd.Config{Endpoints: []string{"root:secret@a"}}, "is not HOST:PORT"},
		{etcd.Config{Endpoints: []string{"https://root:secret@a:b%zz"}}, "is not a URL"},
	} {
		_, err := etcd.New(test.cfg)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%+v: %v", test.cfg, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%+v: %v, want %q", test.cfg, err, test.want)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

// Members are found by SRV records: those with TLS if there are any, else those without.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	server := embedded.StartEtcd(t)
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(server.Endpoints()[0], "http://"))
	var asked []string
	lookup := func(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
		asked = append(asked, fmt.Sprintf("_%s._%s.%s", service, proto, name))
		if service != "etcd-client-blue" {
			return "", nil, errors.New("no such host")
		}
		p, _ := net.LookupPort("tcp", port)
		return "", []*net.SRV{{Target: host + ".", Port: uint16(p)}}, nil
	}
	conn := connect(t, etcd.Config{DiscoverySRV: "example.com", DiscoverySRVName: "blue", LookupSRV: lookup})
	stream := mustRead(t, etcd.NewSource(conn, etcd.SourceConfig{}))
	if stream.Member.Endpoint != server.Endpoints()[0] {
		t.Errorf("member %+v, want %s", stream.Member, server.Endpoints()[0])
	}
	if want := "_etcd-client-ssl-blue._tcp.example.com _etcd-client-blue._tcp.example.com"; strings.Join(asked,
		" ") != want {
		t.Errorf("asked for %q, want %s", asked, want)
	}
	client, err := conn.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), "a", "b"); err != nil {
		t.Error(err)
	}

	conn = connect(t, etcd.Config{DiscoverySRV: "example.com", LookupSRV: lookup})
	_, err = etcd.NewSource(conn, etcd.SourceConfig{}).Snapshot(t.Context())
	wantUnavailable(t, err, `"example.com"`, "_etcd-client-ssl._tcp", "_etcd-client._tcp", "no such host")
	_, err = conn.Client(t.Context())
	wantUnavailable(t, err, `"example.com"`)
}

// The client learns of new members: all that it knew first may be gone one day.
func TestTheClientFollowsTheRecords(t *testing.T) {
	t.Parallel()
	first, second := embedded.StartEtcd(t), embedded.StartEtcd(t)
	var now atomic.Pointer[embedded.Etcd]
	now.Store(first)
	conn := connect(t, etcd.Config{
		DiscoverySRV: "example.com", LookupInterval: time.Nanosecond,
		LookupSRV: func(_ context.Context, service, _, _ string) (string, []*net.SRV, error) {
			if service != "etcd-client" {
				return "", nil, errors.New("no such host")
			}
			host, port, _ := net.SplitHostPort(strings.TrimPrefix(now.Load().Endpoints()[0], "http://"))
			p, _ := net.LookupPort("tcp", port)
			return "", []*net.SRV{{Target: host + ".", Port: uint16(p)}}, nil
		},
	})
	put := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		client, err := conn.Client(ctx)
		if err == nil {
			_, err = client.Put(ctx, "a", "b")
		}
		return err
	}
	must(t, put())
	first.Close(t)
	now.Store(second)
	err := put()
	for end := time.Now().Add(testenv.StartTimeout); err != nil && time.Now().Before(end); {
		err = put()
	}
	if err != nil {
		t.Errorf("the only member is another one now, and the client does not find it: %v", err)
	}
}
