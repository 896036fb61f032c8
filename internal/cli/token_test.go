package cli_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

func TestATokenIsPrintedOnceAndRevoked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.json")
	env := map[string]string{"SNAPSHOTD_TOKENS_FILE": file}
	made := run(t.Context(), env, "token", "create", "ci")
	secret := strings.TrimSpace(made.stdout)
	if made.code != 0 || !strings.HasPrefix(secret, "sdt_") || strings.Contains(made.stderr, secret) {
		t.Fatalf("create: %+v", made)
	}
	id := strings.Split(secret, "_")[1]
	if r := run(t.Context(), env, "token", "create", "ci", "--expires-in", "0"); !strings.Contains(r.stderr, "never expires") {
		t.Errorf("create: %+v", r)
	}
	list := run(t.Context(), env, "token", "list")
	if list.code != 0 || strings.Count(list.stdout, " ci ") != 2 || !strings.Contains(list.stdout, id) ||
		strings.Contains(list.stdout, secret) {
		t.Errorf("list: %+v", list)
	}
	if r := run(t.Context(), env, "token", "revoke", id); r.code != 0 || !strings.Contains(r.stdout, "1 of "+id) {
		t.Errorf("revoke by id: %+v", r)
	}
	if r := run(t.Context(), env, "token", "revoke", "ci"); r.code != 0 || !strings.Contains(r.stdout, "1 of ci") {
		t.Errorf("revoke by name: %+v", r)
	}
	if r := run(t.Context(), env, "token", "revoke", "ci"); r.code != 6 {
		t.Errorf("revoke what is not there: %+v", r)
	}
	for _, args := range [][]string{
		{"token", "create"}, {"token", "create", "a b"}, {"token", "create", "c*"}, {"token", "create", "a", "--expires-in", "-1h"},
	} {
		if r := run(t.Context(), env, args...); r.code != 2 {
			t.Errorf("%q: %+v", args, r)
		}
	}
	if r := run(t.Context(), nil, "token", "list"); r.code != 2 || !strings.Contains(r.stderr, "--tokens-file is missing") {
		t.Errorf("without a file: %+v", r)
	}
	gone := filepath.Join(t.TempDir(), "gone")
	if r := run(t.Context(), nil, "token", "revoke", "x", "--tokens-file", gone); r.code != 1 {
		t.Errorf("revoke in a file that is not there: %+v", r)
	}
	if _, err := os.Stat(gone); err == nil {
		t.Error("revoke has made a file")
	}
}

// knower is a service that knows its caller.
type knower struct {
	snapshotdv1.UnimplementedSnapshotServiceServer
	headers []string
}

func (k *knower) WhoAmI(ctx context.Context, _ *snapshotdv1.WhoAmIRequest) (*snapshotdv1.WhoAmIResponse, error) {
	k.headers = metadata.ValueFromIncomingContext(ctx, "authorization")
	return &snapshotdv1.WhoAmIResponse{
		Kind: "token", Name: "ci", ExpireTime: timestamppb.New(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)),
		Clusters: []*snapshotdv1.ClusterRole{{Cluster: "prod", Role: snapshotdv1.Role_ROLE_OPERATOR}},
	}, nil
}

func TestATokenIsSentFromItsFileAlone(t *testing.T) {
	k := &knower{}
	env := serve(t, k)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("sdt_1_2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env["SNAPSHOTD_TOKEN_FILE"] = file
	r := run(t.Context(), env, "whoami")
	want := "kind     token\nname     ci\nexpires  2026-12-01T00:00:00Z\nrole     operator on prod\n"
	if r.code != 0 || r.stdout != want || len(k.headers) != 1 || k.headers[0] != "Bearer sdt_1_2" {
		t.Errorf("%+v, and the service got %q", r, k.headers)
	}
	r = run(t.Context(), env, "whoami", "--plaintext", "--addr", "192.0.2.1")
	if r.code != 2 || !strings.Contains(r.stderr, "readable on the network") {
		t.Errorf("in plaintext to another machine: %+v", r)
	}
	for _, text := range []string{"", "a b", "a\nb\n", strings.Repeat("x", 20<<10)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := run(t.Context(), env, "whoami"); r.code != 2 || !strings.Contains(r.stderr, "--token-file") {
			t.Errorf("%.10q: %+v", text, r)
		}
	}
}
