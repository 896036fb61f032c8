package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/wire"
)

// ErrNoResult is an answer without a snapshot.
var ErrNoResult = errors.New("the service answered without a snapshot")

// Explain returns the cause of an error of the connection; errors of the service are returned as they are.
func (c *Client) Explain(err error) error {
	st, ok := status.FromError(err)
	switch {
	case err == nil || !ok:
		return err
	case wire.DetailsOf(err).Pruned != nil: // it was answered, with what was removed
		return err
	case st.Code() == codes.DeadlineExceeded && c.options.Timeout > 0: // seen first by either side
		return fmt.Errorf("the service at %s did not answer within %v (--timeout)", c.addr, c.options.Timeout)
	case wire.DetailsOf(err).Reason != "":
		return err
	}
	switch st.Code() {
	case codes.Unavailable:
		return fmt.Errorf("reach the service at %s: %s", c.addr, c.options.cause(st.Message()))
	case codes.Unimplemented:
		return fmt.Errorf("the server at %s is no snapshotd, or an older one: %s", c.addr, st.Message())
	}
	if _, cause, ours := strings.Cut(st.Message(), "per-RPC creds failed due to error: "); ours {
		return errors.New(cause) // of the token or the plugin, before anything was sent
	}
	return err
}

// causes are parts of gRPC's reports that have one cause each, and ways to solve it.
var causes = []struct{ report, cause string }{
	{"connection refused", `connection refused; is "snapshotd serve" running there? (--addr sets another address)`},
	{"connect: no such file or directory",
		`there is no such socket; is "snapshotd serve" running there, with this listen_grpc? (--addr sets another address)`},
	{"connect: permission denied",
		"permission denied; a socket is for the user of the service, and with ?mode=0660 in its listen_grpc for its group"},
	{"error reading from server",
		"the connection broke off before the answer; the request may have been carried out (list shows it)"},
	{"produced zero addresses", noSuchHost},
	{"no such host", noSuchHost},
	{"first record does not look like a TLS handshake", "it speaks no TLS; --plaintext if the network is to be trusted"},
	{"certificate signed by unknown authority",
		"its certificate is of an unknown authority; --cacert names the right one"},
}

const noSuchHost = "there is no such host (--addr)"

// cause turns gRPC's report of a connection into a cause and a way to solve it.
func (o *Options) cause(report string) string {
	for _, known := range causes {
		if strings.Contains(report, known.report) {
			return known.cause
		}
	}
	if _, when, expired := strings.Cut(report, "certificate has expired or is not yet valid: "); expired {
		return "its certificate has expired or is not yet valid: " + strings.TrimSuffix(when, `"`) +
			"; renew it there, or set the clock"
	}
	if o.wantsTLS() {
		return o.causeOfTLS(report)
	}
	switch {
	case asksForCertificate(report):
		return wantsCertificate
	case strings.Contains(report, "error reading server preface"):
		return "it does not speak plaintext gRPC; --tls or --cacert if it serves with TLS"
	}
	return transportError(report)
}

const wantsCertificate = "it asks for a client certificate that it accepts; --cert and --key give one"

func asksForCertificate(report string) bool {
	return strings.Contains(report, "certificate required") || strings.Contains(report, "bad certificate")
}

func (o *Options) causeOfTLS(report string) string {
	if expired := o.expired(); expired != "" {
		return expired
	}
	if asksForCertificate(report) {
		return wantsCertificate
	}
	text := transportError(report)
	for _, broke := range []string{"broken pipe", "connection reset", "EOF"} {
		if strings.Contains(report, broke) {
			// With TLS 1.3 the service checks our certificate when we send already.
			return text + "; perhaps it asks for a client certificate that it accepts, --cert and --key give one"
		}
	}
	return text
}

// expired returns an error text when our own certificate has expired; the service reports that in many ways, or not at
// all.
func (o *Options) expired() string {
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil || pair.Leaf == nil || time.Now().Before(pair.Leaf.NotAfter) {
		return ""
	}
	return fmt.Sprintf("it closes the connection, and the certificate %s has expired, at %s; renew it",
		o.cert, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
}

var transportReport = regexp.MustCompile(`desc = "(?:transport: )?(.*?)"$`)

// transportError returns the error inside gRPC's report of it.
func transportError(report string) string {
	if m := transportReport.FindStringSubmatch(report); m != nil {
		return m[1]
	}
	return report
}
