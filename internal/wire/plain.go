package wire

import (
	"strconv"
	"strings"

	"google.golang.org/grpc/status"
)

// Plain returns the text of an error without the words that gRPC puts around it: for a connection that cannot be made,
// the error of the system or of TLS.
func Plain(err error) string {
	st, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	text := st.Message()
	if _, desc, ok := strings.Cut(text, "connection error: desc = "); ok {
		if quoted, err := strconv.QuotedPrefix(desc); err == nil {
			text, _ = strconv.Unquote(quoted)
		}
	}
	for _, noise := range []string{"transport: ", "Error while dialing: ", "authentication handshake failed: "} {
		text = strings.TrimPrefix(text, noise)
	}
	if text == "error reading from server: EOF" {
		return "the connection broke off"
	}
	return text
}
