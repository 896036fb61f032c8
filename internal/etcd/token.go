package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"

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
type tokens struct {
	mu   sync.Mutex
	last string
}

func (t *tokens) get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

func (t *tokens) set(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = token
}

// authorized makes a call to a member with the token at hand, and once more with a new one when that is refused.
func (c *Conn) authorized(ctx context.Context, cc *grpc.ClientConn, call func(ctx context.Context) error) error {
	if c.cfg.User == "" {
		return call(ctx)
	}
	token := c.tokens.get()
	if token != "" {
		if err := call(withToken(ctx, token)); !refused(err) {
			return err
		}
	}
	resp, err := etcdserverpb.NewAuthClient(cc).Authenticate(ctx, &etcdserverpb.AuthenticateRequest{
		Name: c.cfg.User, Password: c.cfg.Password,
	})
	switch {
	case err == nil:
		c.tokens.set(resp.GetToken())
		return call(withToken(ctx, resp.GetToken()))
	case errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled):
		return call(ctx)
	case errors.Is(rpctypes.Error(err), rpctypes.ErrAuthFailed):
		return err
	default:
		return &loginError{c.cfg.User, err}
	}
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
