package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/wire"
)

// why returns the cause of a failed call to etcd, without the layers that gRPC puts around it.
func (c *Conn) why(err error) string {
	if e, ok := errors.AsType[*loginError](err); ok {
		return fmt.Sprintf("log in as %q: %s", e.user, c.why(e.err))
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err.Error()
	}
	msg := wire.Plain(err)
	if status.Code(err) == codes.DeadlineExceeded && strings.HasPrefix(msg, context.DeadlineExceeded.Error()) &&
		!strings.Contains(msg, "error:") {
		return "it did not answer in time"
	}
	return msg
}

// hint returns advice for an operator about an error of etcd, or an empty text.
func (c *Conn) hint(err error) string {
	if err == nil {
		return ""
	}
	has := func(s string) bool { return strings.Contains(err.Error(), s) }
	switch is := func(target error) bool { return errors.Is(rpctypes.Error(err), target) }; {
	case is(rpctypes.ErrAuthFailed):
		return fmt.Sprintf("user %q or its password is wrong", c.cfg.User)
	case is(rpctypes.ErrUserEmpty):
		return "etcd's authentication is on; give a user and password, or a client certificate whose common name is a user"
	case is(rpctypes.ErrPermissionDenied):
		return "only a user with the role root may read snapshots; etcdctl user grant-role USER root"
	case isLogin(err) && !has("connection error"):
		return "etcd checks passwords only while it has a quorum; a client certificate whose common name is a user with " +
			"the role root works without"
	case has("x509: certificate signed by unknown authority"):
		if c.cfg.CACert == "" {
			return "none of the system's CAs signed etcd's certificate; give the CA that did"
		}
		return fmt.Sprintf("the CA in %s did not sign etcd's certificate; give the one that did", c.cfg.CACert)
	case has("x509: certificate has expired"):
		return "the member's certificate has expired or the clocks differ; renew it on the member"
	case has("x509: certificate is valid for"), has("doesn't contain any IP SANs"):
		return "the member's certificate is for other names; use one of them as the endpoint"
	case has("the client certificate") && has("expired at"), has("remote error: tls: expired certificate"):
		return "renew the client certificate; it is read again with the next connection"
	case has("remote error: tls: unknown certificate authority"), has("remote error: tls: bad certificate"):
		return "etcd does not trust the client certificate; use one that its client CA (--trusted-ca-file) signed"
	case has("remote error: tls: certificate required"):
		return "etcd asks for a client certificate; give a certificate and key"
	case has("first record does not look like a TLS handshake"), has("authentication handshake failed: EOF"):
		return "the member speaks plain text there; write http://, or turn TLS on in etcd"
	case has("error reading server preface"):
		return "the member may want TLS; write https://"
	}
	return ""
}

func isLogin(err error) bool {
	_, ok := errors.AsType[*loginError](err)
	return ok
}
