package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// loginError says that the password could not be checked.
type loginError struct {
	user string
	err  error
}

func (e *loginError) Error() string { return fmt.Sprintf("log in as %q: %v", e.user, e.err) }
func (e *loginError) Unwrap() error { return e.err }

// tokens keeps the last token that etcd gave for the user and password. All members accept it, also without a quorum,
// when they give no new one.
//
// An etcd that was restored from a snapshot does not refuse a token of the time before: it leaves the call without an
// answer until it has applied as many entries as when it gave the token, which may be never. So a token is doubted
// after a call that was not answered in time, and etcd is asked for another one before the next call.
type tokens struct {
	mu      sync.Mutex
	last    string
	doubted bool
}

func (t *tokens) get() (token string, doubted bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, t.doubted
}

func (t *tokens) set(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last, t.doubted = token, false
}

func (t *tokens) doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubted = t.last != ""
}

// judge notes how a call with a token ended.
func (t *tokens) judge(token string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if token == t.last {
		t.doubted = !answered(err) || refused(err)
	}
}

// answered reports whether a call has ended with an answer of etcd. The end of its time shows itself in many ways: etcd
// knows the deadline as well, and may reset the stream a moment before it.
func answered(err error) bool {
	_, known := errors.AsType[rpctypes.EtcdError](rpctypes.Error(err))
	return err == nil || known
}

// loginTimeout bounds a login in place of a token that is doubted, as does half of the time that the call has: without
// a quorum there is no answer to it, and then the call needs the rest of its time for the token at hand.
const loginTimeout = 5 * time.Second

// authorized makes a call to a member with the token at hand, and once more with a new one when that is refused.
func (c *Conn) authorized(ctx context.Context, cc *grpc.ClientConn, call func(ctx context.Context) error) error {
	if c.cfg.User == "" {
		return call(ctx)
	}
	token, doubted := c.tokens.get()
	with := func(token string) error {
		err := call(withToken(ctx, token))
		c.tokens.judge(token, err)
		return err
	}
	if token != "" && !doubted {
		if err := with(token); !refused(err) {
			return err
		}
	}
	fresh, err := c.login(ctx, cc, doubted)
	switch {
	case err == nil:
		c.tokens.set(fresh)
		if token != "" {
			c.renew.Store(true) // that of the client is as old
		}
		return with(fresh)
	case errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled):
		return call(ctx)
	case errors.Is(rpctypes.Error(err), rpctypes.ErrAuthFailed):
		return err
	case doubted && ctx.Err() == nil:
		return with(token)
	default:
		return &loginError{c.cfg.User, err}
	}
}

// login asks a member for a token, briefly if there is another one.
func (c *Conn) login(ctx context.Context, cc *grpc.ClientConn, briefly bool) (token string, err error) {
	if briefly {
		most := loginTimeout
		if end, bounded := ctx.Deadline(); bounded {
			most = min(most, time.Until(end)/2)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, most)
		defer cancel()
	}
	resp, err := etcdserverpb.NewAuthClient(cc).Authenticate(ctx, &etcdserverpb.AuthenticateRequest{
		Name: c.cfg.User, Password: c.cfg.Password,
	})
	return resp.GetToken(), err
}

// renewToken makes clientv3 log in again after a call that was not answered in time (see [tokens]). It refuses the next
// call before it is sent, as etcd refuses one without a user: then clientv3 logs in, and makes the call.
func (c *Conn) renewToken(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	login := method == etcdserverpb.Auth_Authenticate_FullMethodName
	if !login && c.renew.CompareAndSwap(true, false) {
		return rpctypes.ErrGRPCUserEmpty
	}
	err := invoke(ctx, method, req, reply, cc, opts...)
	// A login that is late says nothing of the token, and a caller that waits no more neither: the next call has the one
	// at hand. Otherwise an etcd that is slow would be asked for nothing but logins.
	if !login && err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		c.renew.Store(true)
		c.tokens.doubt()
	}
	return err
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
}

// refused reports whether a call failed because of its token.
func refused(err error) bool {
	err = rpctypes.Error(err)
	return errors.Is(err, rpctypes.ErrInvalidAuthToken) || errors.Is(err, rpctypes.ErrUserEmpty) ||
		errors.Is(err, rpctypes.ErrAuthOldRevision)
}
