package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// scheme begins the addresses of sockets.
const scheme = "unix://"

// maxPath is how long the path of a socket may be: the kernel takes 107 bytes, and it is made in a directory beside.
const maxPath = 90

// defaultMode lets only the service's own user in, and root.
const defaultMode = 0o600

// Is reports whether an address is one of a socket.
func Is(addr string) bool { return strings.HasPrefix(addr, scheme) }

// Parse returns the path and the mode of the socket that an address names: unix:///run/snapshotd.sock, or
// unix:///run/snapshotd.sock?mode=0660.
func Parse(addr string) (path string, mode os.FileMode, err error) {
	u, err := url.Parse(addr)
	if err != nil || !Is(addr) || u.Host != "" || u.User != nil || u.Fragment != "" || !filepath.IsAbs(u.Path) ||
		filepath.Clean(u.Path) != u.Path {
		return "", 0, fmt.Errorf("%.120q is no address of a socket; write it as unix:///run/snapshotd/snapshotd.sock", addr)
	}
	if len(u.Path) > maxPath {
		return "", 0, fmt.Errorf("the path %.120q has %d bytes, and %d are allowed", u.Path, len(u.Path), maxPath)
	}
	query := u.Query()
	text := query.Get("mode")
	query.Del("mode")
	if len(query) > 0 {
		return "", 0, fmt.Errorf("%.120q has a parameter other than mode", addr)
	}
	if text == "" {
		return u.Path, defaultMode, nil
	}
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n&^0o777 != 0 || n&0o600 != 0o600 {
		return "", 0, fmt.Errorf("the mode %.20q is none of a socket; write it as 0600 or 0660", text)
	}
	return u.Path, os.FileMode(n), nil
}

// User is the user of a process that calls.
type User struct {
	UID  uint32
	Name string // empty when the machine has none for it
}

// Addr is the remote address of a connection through a socket.
type Addr struct{ User User }

// Network implements [net.Addr].
func (Addr) Network() string { return "unix" }

// String implements [net.Addr].
func (a Addr) String() string { return "unix:" + a.User.String() }

// String returns the name of the user, or the number.
func (u User) String() string {
	if u.Name != "" {
		return u.Name
	}
	return "uid " + strconv.FormatUint(uint64(u.UID), 10)
}

// Listen makes a socket and listens. The socket has its mode as soon as it can be reached, whatever the umask: it is
// made in a directory of its own, and moved to its place. One that a dead process has left there is replaced.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	path, mode, err := Parse(addr)
	if err != nil {
		return nil, err
	}
	if err := supported(); err != nil {
		return nil, err
	}
	if err := vacant(ctx, path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".socket-")
	if err != nil {
		return nil, fmt.Errorf("make the socket %s: %w", path, err)
	}
	defer func() { _ = os.Remove(dir) }() // it is empty
	made := filepath.Join(dir, "s")
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", made)
	if err != nil {
		return nil, fmt.Errorf("make the socket %s: %w", path, err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // it removes what has the name then
	err = os.Chmod(made, mode)
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		_ = os.Remove(made)
		return nil, errors.Join(fmt.Errorf("make the socket %s: %w", path, err), ln.Close())
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the socket %s: %w", path, err), ln.Close())
	}
	return &listener{Listener: ln, path: path, info: info}, nil
}

// vacant returns why a socket cannot take the path. It can take that of a socket on which nobody listens.
func vacant(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("make the socket %s: %w", path, err)
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("make the socket %s: something else is there, which is no socket; move it away", path)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("make the socket %s: another process listens on it", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("make the socket %s: there is one, and it is not known whether a process listens on it: %w",
			path, err)
	}
	return nil // the rename replaces it
}

type listener struct {
	net.Listener
	path string
	info os.FileInfo
}

// Addr implements [net.Listener].
func (l *listener) Addr() net.Addr { return path(l.path) }

type path string

func (path) Network() string  { return "unix" }
func (p path) String() string { return scheme + string(p) }

// Accept implements [net.Listener].
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := peerOf(c.(*net.UnixConn))
		if err != nil {
			_ = c.Close() // nobody knows who calls
			continue
		}
		u := User{UID: uid}
		if known, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
			u.Name = known.Username
		}
		return conn{c, Addr{u}}, nil
	}
}

// Close implements [net.Listener]. It removes the socket, unless another one is there by now.
func (l *listener) Close() error {
	err := l.Listener.Close()
	if now, serr := os.Lstat(l.path); serr == nil && os.SameFile(now, l.info) {
		return errors.Join(err, os.Remove(l.path))
	}
	return err
}

type conn struct {
	net.Conn
	remote Addr
}

// RemoteAddr implements [net.Conn].
func (c conn) RemoteAddr() net.Addr { return c.remote }
