package wire_test

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/wire"
)

func TestPlainHasNoWordsOfGRPC(t *testing.T) {
	unavailable := func(s string) error { return status.Error(codes.Unavailable, s) }
	for _, tc := range []struct {
		err  error
		want string
	}{
		{errors.New("disk full"), "disk full"},
		{status.Error(codes.NotFound, "no such key"), "no such key"},
		{
			unavailable(`connection error: desc = ` +
				`"transport: Error while dialing: dial tcp 10.0.0.1:2379: connect: connection refused"`),
			"dial tcp 10.0.0.1:2379: connect: connection refused",
		},
		{
			unavailable(`last connection error: connection error: desc = ` +
				`"transport: authentication handshake failed: x509: certificate has expired"`),
			"x509: certificate has expired",
		},
		{unavailable("error reading from server: EOF"), "the connection broke off"},
	} {
		if got := wire.Plain(tc.err); got != tc.want {
			t.Errorf("%v\n got %q\nwant %q", tc.err, got, tc.want)
		}
	}
}
