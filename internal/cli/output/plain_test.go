package output_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/cli/output"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// hostile does things to a terminal, or shows a text as another one.
const hostile = "a\x1b[2J\x1b]0;x\x07b\rc\x00d\u009b31m\u202egnp.exe\u2066e\u200bf\x7f\xff"

func TestNothingButTextReachesATerminal(t *testing.T) {
	var b bytes.Buffer
	fmt.Fprintf(output.PlainLines(&b), "first\t%s\nsecond \u00fc\n", hostile)
	if got := b.String(); !strings.HasPrefix(got, "first\ta [2J") || !strings.HasSuffix(got, "\nsecond \u00fc\n") {
		t.Errorf("got %q", got)
	}
	b.Reset()
	var f output.Format
	err := f.Print(&b, &snapshotdv1.GetResponse{}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "version    storage %s\n", hostile)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{b.String(), output.Plain(hostile) + "\n"} {
		if strings.ContainsAny(strings.TrimSuffix(text, "\n"), "\x1b\x07\r\x00\u009b\u202e\u2066\u200b\x7f\n") {
			t.Errorf("written is %q", text)
		}
	}
}
