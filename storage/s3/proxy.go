package s3

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
)

// checkProxy does not repeat its value: it may have a password in it.
func checkProxy(v string) error {
	u, err := url.Parse(v)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" || u.Host == "":
		return errors.New("is not a URL such as http://HOST:PORT")
	case u.User != nil:
		return errors.New("has a user or password in it; a proxy that wants them goes into HTTPS_PROXY")
	}
	return nil
}

// proxyError is that the proxy, and not the server, cannot be reached or refuses.
type proxyError struct {
	addr string
	err  error
}

func (e *proxyError) Error() string { return "the proxy " + e.addr + ": " + e.err.Error() }
func (e *proxyError) Unwrap() error { return e.err }

const hintProxy = "check the proxy (proxy= in the URL, or HTTPS_PROXY and HTTP_PROXY), or name the server in NO_PROXY"

// proxies remembers which addresses are those of proxies, to tell an error to connect to one from an error of the
// server.
type proxies struct{ known sync.Map }

// watch makes a transport's errors say when they are a proxy's.
func (p *proxies) watch(t *http.Transport) {
	choose, dial := t.Proxy, t.DialContext
	if choose == nil {
		return
	}
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		u, err := choose(r)
		if u != nil {
			p.known.Store(addrOf(u), true)
		}
		return u, err
	}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if _, proxy := p.known.Load(addr); proxy && err != nil {
			err = &proxyError{addr, err}
		}
		return conn, err
	}
	t.OnProxyConnectResponse = func(_ context.Context, u *url.URL, _ *http.Request, resp *http.Response) error {
		if resp.StatusCode != http.StatusOK {
			return &proxyError{addrOf(u), errors.New("it answered " + resp.Status)}
		}
		return nil
	}
}

// addrOf returns the address that is dialled for a proxy.
func addrOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
