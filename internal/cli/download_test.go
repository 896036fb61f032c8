package cli_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/cli"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// downloads serves content, and lets a test break it.
type downloads struct {
	content []byte
	asked   []int64              // offsets
	after   func(call int) error // error of a call; nil: all is sent
}

func (d *downloads) serve(
	r *snapshotdv1.DownloadRequest, s grpc.ServerStreamingServer[snapshotdv1.DownloadResponse],
) error {
	d.asked = append(d.asked, r.GetOffset())
	if err := s.Send(&snapshotdv1.DownloadResponse{Header: d.header(r)}); err != nil {
		return err
	}
	rest := d.content[r.GetOffset():]
	var end error
	if d.after != nil {
		if end = d.after(len(d.asked)); end != nil {
			rest = rest[:len(rest)/2]
		}
	}
	if err := s.Send(&snapshotdv1.DownloadResponse{Data: rest}); err != nil {
		return err
	}
	return end
}

func (d *downloads) header(r *snapshotdv1.DownloadRequest) *snapshotdv1.DownloadHeader {
	sum := sha256.Sum256(d.content)
	return &snapshotdv1.DownloadHeader{
		Cluster: "default", Name: r.GetName(), Backend: "s3", Decoded: r.GetDecoded(), FileName: r.GetName() + ".db.zst",
		TotalBytes: int64(len(d.content)), Sha256: hex.EncodeToString(sum[:]), Sha256Bytes: int64(len(d.content)),
	}
}

func TestDownloadGoesOnWhenTheConnectionBreaks(t *testing.T) {
	t.Parallel()
	d := &downloads{content: bytes.Repeat([]byte("snapshot"), 1000), after: func(call int) error {
		switch {
		case call == 3: // the reader of our output was slow
			return wire.Status(snapshot.ReasonSlowConsumer.New("nothing was taken"), "default", nil).Err()
		case call < 8:
			return status.Error(codes.Unavailable, "connection reset")
		}
		return nil
	}}
	r := run(t.Context(), serve(t, &fake{download: d.serve}), "download", "x")
	if r.code != 0 || r.stdout != string(d.content) || d.asked[1] != int64(len(d.content)/2) {
		t.Errorf("exit code %d, %d bytes, asked for %v: %s", r.code, len(r.stdout), d.asked, r.stderr)
	}
}

func TestDownloadResumesItsPart(t *testing.T) {
	broken := true
	d := &downloads{content: bytes.Repeat([]byte("snapshot"), 1000), after: func(int) error {
		if broken {
			return wire.Status(snapshot.ReasonBackendUnavailable.New("read it"), "default", nil).Err()
		}
		return nil
	}}
	env := serve(t, &fake{download: d.serve})
	env["SNAPSHOTD_OUTPUT"] = "json" // the format of other verbs, and no file
	file := filepath.Join(t.TempDir(), "x.db")
	if r := run(t.Context(), env, "download", "x", "--output", file); r.code != 1 ||
		!strings.Contains(r.stderr, "read it") {
		t.Fatalf("exit code %d: %s", r.code, r.stderr)
	}
	if info, err := os.Stat(file + ".part"); err != nil || info.Size() != int64(len(d.content)/2) ||
		info.Mode().Perm() != 0o600 {
		t.Fatalf("the part: %v, %v", info, err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Fatal("a file of what is not whole")
	}
	broken = false
	r := run(t.Context(), env, "download", "x", "--output", file)
	if got, err := os.ReadFile(file); r.code != 0 || err != nil || !bytes.Equal(got, d.content) ||
		d.asked[1] != int64(len(d.content)/2) {
		t.Errorf("exit code %d, %v, asked for %v: %s", r.code, err, d.asked, r.stderr)
	}
	if left, _ := filepath.Glob(file + ".*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if r := run(t.Context(), env, "download", "x", "--output", file); r.code != 1 ||
		!strings.Contains(r.stderr, "--force") {
		t.Errorf("over a file that exists: exit code %d: %s", r.code, r.stderr)
	}
	if r := run(t.Context(), env, "download", "x", "--output", file, "--force"); r.code != 0 {
		t.Errorf("by force: exit code %d: %s", r.code, r.stderr)
	}
}

func TestDownloadNeverMixesTwoSnapshots(t *testing.T) {
	d := &downloads{content: bytes.Repeat([]byte("snapshot"), 1000)}
	env := serve(t, &fake{download: d.serve})
	for name, prepare := range map[string]func(file string) error{
		"another part": func(file string) error {
			d.after = func(int) error { return status.Error(codes.Internal, "no") }
			run(t.Context(), env, "download", "y", "--output", file)
			d.after = nil
			return nil
		},
		"a part of nobody knows what": func(file string) error { return os.WriteFile(file+".part", []byte("mine"), 0o600) },
	} {
		file := filepath.Join(t.TempDir(), "x.db")
		if err := prepare(file); err != nil {
			t.Fatal(err)
		}
		r := run(t.Context(), env, "download", "x", "--output", file)
		if got, err := os.ReadFile(file); r.code != 0 || err != nil || !bytes.Equal(got, d.content) {
			t.Errorf("%s: exit code %d, %v: %s", name, r.code, err, r.stderr)
		}
	}
	// The part was damaged on this machine: the checksum of the whole finds it, and nothing is left of it.
	file := filepath.Join(t.TempDir(), "x.db")
	d.after = func(int) error { return status.Error(codes.Internal, "no") }
	run(t.Context(), env, "download", "x", "--output", file)
	d.after = nil
	if err := os.WriteFile(file+".part", make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t.Context(), env, "download", "x", "--output", file)
	if left, _ := filepath.Glob(file + "*"); r.code != 4 || len(left) > 0 {
		t.Errorf("a damaged part: exit code %d, left %q: %s", r.code, left, r.stderr)
	}
}

func TestDownloadThatNeverBeganLeavesNoFile(t *testing.T) {
	env := serve(t, &fake{download: func(*snapshotdv1.DownloadRequest,
		grpc.ServerStreamingServer[snapshotdv1.DownloadResponse]) error {
		return wire.Status(snapshot.ReasonBackendUnavailable.New("read it"), "default", nil).Err()
	}})
	file := filepath.Join(t.TempDir(), "x.db")
	r := run(t.Context(), env, "download", "x", "--output", file)
	if left, _ := filepath.Glob(file + "*"); r.code != 1 || len(left) > 0 {
		t.Errorf("exit code %d, left %q: %s", r.code, left, r.stderr)
	}
	if err := os.WriteFile(file+".part", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t.Context(), env, "download", "x", "--output", file)
	if got, err := os.ReadFile(file + ".part"); err != nil || string(got) != "mine" {
		t.Errorf("a part that was there: %q, %v", got, err)
	}
}

func TestDownloadOfADatabaseTellsBothChecksums(t *testing.T) {
	content := make([]byte, 512)
	body := sha256.Sum256(content)
	d := &downloads{content: append(content, body[:]...)}
	env := serve(t, &fake{download: func(r *snapshotdv1.DownloadRequest,
		s grpc.ServerStreamingServer[snapshotdv1.DownloadResponse]) error {
		h := d.header(r)
		h.Sha256, h.Sha256Bytes = hex.EncodeToString(body[:]), 512
		if err := s.Send(&snapshotdv1.DownloadResponse{Header: h}); err != nil {
			return err
		}
		return s.Send(&snapshotdv1.DownloadResponse{Data: d.content})
	}})
	file, whole := filepath.Join(t.TempDir(), "x.db"), sha256.Sum256(d.content)
	r := run(t.Context(), env, "download", "x", "--decoded", "--output", file)
	want := file + "  544 B, sha256 " + hex.EncodeToString(whole[:]) + "; without etcd's checksum at its end " +
		"" + hex.EncodeToString(body[:]) + ", as get shows it\n"
	if r.code != 0 || r.stdout != want {
		t.Errorf("exit code %d: %s%s, want %s", r.code, r.stdout, r.stderr, want)
	}
}

func TestDownloadOfDamageLeavesNoFile(t *testing.T) {
	d := &downloads{content: []byte("snapshot"), after: func(int) error {
		return wire.Status(snapshot.ReasonChecksumMismatch.New("damaged"), "default", nil).Err()
	}}
	file := filepath.Join(t.TempDir(), "x.db")
	r := run(t.Context(), serve(t, &fake{download: d.serve}), "download", "x", "--output", file)
	if left, _ := filepath.Glob(file + "*"); r.code != 4 || len(left) > 0 || !strings.Contains(r.stderr, "damaged") {
		t.Errorf("exit code %d, left %q: %s", r.code, left, r.stderr)
	}
}

func TestDownloadTouchesNothingButItsFile(t *testing.T) {
	d := &downloads{content: []byte("snapshot")}
	env := serve(t, &fake{download: d.serve})
	dir := t.TempDir()
	file, others := filepath.Join(dir, "x.db"), filepath.Join(dir, "others")
	if err := os.WriteFile(others, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Another user has put it there, in a directory where everybody may write.
	for _, name := range []string{file + ".part", file + ".part.json"} {
		if err := os.Symlink(others, name); err != nil {
			t.Fatal(err)
		}
		r := run(t.Context(), env, "download", "x", "--output", file)
		if got, err := os.ReadFile(others); err != nil || string(got) != "precious" {
			t.Errorf("%s: %q is left, %v; exit code %d: %s", name, got, err, r.code, r.stderr)
		}
		_ = os.Remove(name)
		_ = os.Remove(file)
	}
	if err := os.WriteFile(file+".part", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(t.Context(), env, "download", "x", "--output", file)
	if info, err := os.Stat(file); r.code != 0 || err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a part that all may read: %v, %v, exit code %d: %s", info, err, r.code, r.stderr)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run(t.Context(), env, "download", "x", "--output", pipe, "--force"); r.code != 2 {
		t.Errorf("to a pipe: exit code %d: %s", r.code, r.stderr)
	}
}

// On a terminal a download makes a file, unless standard output is asked for.
func TestDownloadToStandardOutputOnATerminal(t *testing.T) {
	t.Chdir(t.TempDir())
	d := &downloads{content: []byte("snapshot")}
	env := serve(t, &fake{download: d.serve})
	term := newTerminal(t)
	code := cli.Run(t.Context(), cli.System{
		Stdout: term.File, Stderr: io.Discard, Getenv: func(k string) string { return env[k] }, Now: time.Now,
	}, []string{"download", "x", "--output", "-"})
	_ = term.Close()
	term.read.Wait()
	if code != 0 || term.screen.String() != "snapshot" {
		t.Errorf("exit code %d, the terminal shows %q", code, term.screen.String())
	}
	if made, err := filepath.Glob("*"); err != nil || len(made) > 0 {
		t.Errorf("files were made: %q, %v", made, err)
	}
}

func TestDownloadLeavesAFileThatAppearsMeanwhile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.db")
	d := &downloads{
		content: []byte("snapshot"), after: func(int) error { return os.WriteFile(file, []byte("precious"), 0o600) },
	}
	r := run(t.Context(), serve(t, &fake{download: d.serve}), "download", "x", "--output", file)
	if got, err := os.ReadFile(file); r.code != 1 || err != nil || string(got) != "precious" {
		t.Errorf("exit code %d, %q, %v: %s", r.code, got, err, r.stderr)
	}
}

// The service reads few downloads at a time: a client that holds one call while it waits for the next could wait for
// itself.
func TestDownloadThatIsBegunAnewEndsItsFirstCall(t *testing.T) {
	d := &downloads{
		content: bytes.Repeat([]byte("snapshot"), 1000), after: func(int) error { return status.Error(codes.Internal, "no") },
	}
	ended, calls := make(chan struct{}), 0
	env := serve(t, &fake{download: func(r *snapshotdv1.DownloadRequest,
		s grpc.ServerStreamingServer[snapshotdv1.DownloadResponse]) error {
		switch calls++; calls {
		case 2:
			defer close(ended)
			if err := s.Send(&snapshotdv1.DownloadResponse{Header: d.header(r)}); err != nil {
				return err
			}
			<-s.Context().Done()
			return nil
		case 3:
			select {
			case <-ended:
			case <-s.Context().Done():
				return s.Context().Err()
			}
		}
		return d.serve(r, s)
	}})
	file := filepath.Join(t.TempDir(), "x.db")
	run(t.Context(), env, "download", "x", "--output", file)
	d.after, d.content = nil, []byte(strings.Repeat("another!", 1000))
	if r := run(t.Context(), env, "download", "x", "--output", file, "--timeout", "10s"); r.code != 0 || calls != 3 {
		t.Errorf("exit code %d after %d calls: %s", r.code, calls, r.stderr)
	}
}
