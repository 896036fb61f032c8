package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	switch is := func(target error) bool { return errors.Is(rpctypes.Error(err), target) }; {
	case is(rpctypes.ErrAuthFailed):
		return fmt.Sprintf("user %q or its password is wrong", c.cfg.User)
	case is(rpctypes.ErrUserEmpty):
		return "etcd's authentication is on; give a user and password, or a client certificate whose common name is a user"
	case is(rpctypes.ErrPermissionDenied):
		return "only a user with the role root may read snapshots; etcdctl user grant-role USER root"
	case isLogin(err) && !strings.Contains(err.Error(), "connection error"):
		return "etcd checks passwords only while it has a quorum; a client certificate whose common name is a user with " +
			"the role root works without"
	case strings.Contains(err.Error(), "x509: certificate signed by unknown authority"):
		if c.cfg.CACert == "" {
			return "none of the system's CAs signed etcd's certificate; give the CA that did"
		}
		return fmt.Sprintf("the CA in %s did not sign etcd's certificate; give the one that did", c.cfg.CACert)
	}
	return hintTLS(err.Error())
}

// tlsHints tell what to do about a connection that was not made, by the words of Go's TLS in its error; they come in
// this order, and there are no values to compare with.
var tlsHints = []struct {
	words []string // all of them
	hint  string
}{
	{[]string{"x509: certificate has expired"},
		"the member's certificate has expired or the clocks differ; renew it on the member"},
	{[]string{"x509: certificate is valid for"}, hintOtherNames},
	{[]string{"doesn't contain any IP SANs"}, hintOtherNames},
	{[]string{"the client certificate", "expired at"}, hintRenewClient},
	{[]string{"remote error: tls: expired certificate"}, hintRenewClient},
	{[]string{"remote error: tls: unknown certificate authority"}, hintUntrustedClient},
	{[]string{"remote error: tls: bad certificate"}, hintUntrustedClient},
	{[]string{"remote error: tls: certificate required"}, hintNoClient},
	{[]string{"first record does not look like a TLS handshake"}, hintPlainText},
	{[]string{"authentication handshake failed: EOF"}, hintPlainText},
	{[]string{"error reading server preface"}, "the member may want TLS; write https://"},
}

const (
	hintOtherNames  = "the member's certificate is for other names; use one of them as the endpoint"
	hintRenewClient = "renew the client certificate; it is read again with the next connection, but a copy " +
		"that systemd made (LoadCredential=) only after a restart"
	hintNoClient        = "etcd asks for a client certificate; give a certificate and key"
	hintUntrustedClient = "etcd does not trust the client certificate; use one that its client CA (--trusted-ca-file) " +
		"signed"
	hintPlainText = "the member speaks plain text there; write http://, or turn TLS on in etcd"
)

func hintTLS(text string) string {
	missing := func(words string) bool { return !strings.Contains(text, words) }
	for _, h := range tlsHints {
		if !slices.ContainsFunc(h.words, missing) {
			return h.hint
		}
	}
	return ""
}

func isLogin(err error) bool {
	_, ok := errors.AsType[*loginError](err)
	return ok
}
