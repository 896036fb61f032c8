package restore_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	filippo "filippo.io/age"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Each fault of a segment is named with its revisions; another backend's copy, or a later snapshot, makes up for it. All
// manifests are signed.
func TestBadSegmentLosesNothingThatIsElsewhere(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 11)
	ours := f.sign(t)
	second, third := f.sealed[1], f.sealed[2]
	swap := func(t *testing.T, b *memory.Backend) {
		for _, key := range b.Keys() {
			if strings.Contains(key, second.Name()) {
				b.Set(key, b.Content(strings.Replace(key, second.Name(), third.Name(), 1)))
			}
		}
	}
	spoiled := func(suffix string, edit func([]byte) []byte) func(*testing.T, *memory.Backend) {
		return func(t *testing.T, b *memory.Backend) {
			f.spoil(t, b, second.First, func(key string, content []byte) []byte {
				if strings.HasSuffix(key, suffix) {
					return edit(content)
				}
				return content
			})
		}
	}
	replaced := func(by repository.Config, to age.Recipients) func(*testing.T, *memory.Backend) {
		made := f.elsewhere(t, second, by, to)
		return func(t *testing.T, b *memory.Backend) {
			f.spoil(t, b, second.First, func(string, []byte) []byte { return nil })
			for _, key := range made.Keys() {
				if strings.Contains(key, second.Name()) {
					b.Set(key, made.Content(key))
				}
			}
		}
	}
	for name, tc := range map[string]struct {
		spoil  func(*testing.T, *memory.Backend)
		reason snapshot.Reason
	}{
		"encrypted for others": {replaced(repository.Config{Cluster: "default", Signer: ours}, strangers(t)), snapshot.ReasonSnapshotSealed},
		"forged":               {replaced(repository.Config{Cluster: "default", Signer: newSigner(t)}, age.Recipients{}), snapshot.ReasonManifestUntrusted},
		"not signed":           {replaced(repository.Config{Cluster: "default"}, age.Recipients{}), snapshot.ReasonManifestUntrusted},
		"of another cluster":   {replaced(repository.Config{Cluster: "other", Signer: ours}, age.Recipients{}), snapshot.ReasonManifestUntrusted},
		"torn":                 {spoiled(".seg", func(b []byte) []byte { return b[:len(b)/2] }), snapshot.ReasonChecksumMismatch},
		"a changed bit":        {spoiled(".seg", func(b []byte) []byte { b[len(b)-9] ^= 4; return b }), snapshot.ReasonChecksumMismatch},
		"a cut manifest":       {spoiled(".json", func(b []byte) []byte { return b[:len(b)/2] }), snapshot.ReasonManifestUntrusted},
		"missing":              {spoiled("", func([]byte) []byte { return nil }), snapshot.ReasonRevisionNotFound},
		"without a manifest":   {spoiled(".json", func([]byte) []byte { return nil }), snapshot.ReasonRevisionNotFound},
		"swapped":              {swap, snapshot.ReasonChecksumMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			var before [2]map[string][]byte
			for i, b := range f.backends {
				before[i] = map[string][]byte{}
				for _, key := range b.Keys() {
					before[i][key] = b.Content(key)
				}
			}
			defer func() {
				for i, b := range f.backends {
					for _, key := range b.Keys() {
						b.Remove(key)
					}
					for key, content := range before[i] {
						b.Set(key, content)
					}
				}
			}()
			lost := tc.reason == snapshot.ReasonRevisionNotFound
			tc.spoil(t, f.backends[0])
			res, err := f.plan(t, restore.Choice{Revision: third.Last})
			if err != nil || res.Replayed == nil || res.Replayed.Revision != third.Last {
				t.Fatalf("with the other backend: %+v, %v", res, err)
			}
			if (len(res.Skipped) > 0) == lost {
				t.Errorf("left out: %v", res.Skipped)
			}
			tc.spoil(t, f.backends[1])
			_, err = f.plan(t, restore.Choice{Revision: third.Last})
			want := []string{fmt.Sprintf("revisions %d to %d", second.First, second.Last), fmt.Sprintf("%d is the newest revision before the gap", second.First-1),
				fmt.Sprintf("and %d the first one behind it", f.bases[1])}
			if !lost {
				want = append(want, second.Name(), f.backends[0].Info().Name)
			}
			for _, w := range want {
				if err == nil || snapshot.ReasonOf(err) != tc.reason || !strings.Contains(err.Error(), w) {
					t.Errorf("on both backends: %v (%s) does not say %q", err, snapshot.ReasonOf(err), w)
				}
			}
			f.run(t, restore.Choice{Revision: second.First - 1}, second.First-1)
			last := f.sealed[len(f.sealed)-1].Last
			if res := f.run(t, restore.Choice{Revision: last}, last); res.Snapshot.Name != f.names[1] {
				t.Errorf("behind it, %s was taken", res.Snapshot.Name)
			}
		})
	}
}

// When the first segments behind a snapshot are missing, the journal begins behind them: the error names what is between.
func TestTheFirstSegmentBehindASnapshotIsMissing(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 12)
	first, second := f.sealed[0], f.sealed[1]
	for _, b := range f.backends {
		f.spoil(t, b, first.First, func(string, []byte) []byte { return nil })
	}
	_, err := f.plan(t, restore.Choice{Revision: second.Last})
	want := fmt.Sprintf("the revision %d: revisions %d to %d are missing", f.bases[0], f.bases[0]+1, first.Last)
	if err == nil || snapshot.ReasonOf(err) != snapshot.ReasonRevisionNotFound || !strings.Contains(err.Error(), want) {
		t.Errorf("%v (%s) does not say %q", err, snapshot.ReasonOf(err), want)
	}
}

// elsewhere returns a segment as it is stored by somebody else, and for some recipients.
func (f *faulted) elsewhere(t *testing.T, h segment.Header, by repository.Config, to age.Recipients) *memory.Backend {
	t.Helper()
	b, err := segment.NewBuilder(segment.Header{
		Timeline: h.Timeline, Level: h.Level, Member: h.Member, Term: h.Term, Previous: h.Previous, PreviousChain: h.PreviousChain,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entriesOf(t, f.places[0], h) {
		if err := b.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.Seal()
	if err != nil {
		t.Fatal(err)
	}
	backend := memory.New("elsewhere", snapshot.BackendS3)
	by.Backend, by.Prefix = backend, "default/"
	if err := segments.New(segments.Config{Repository: repository.New(by), Recipients: to}).Put(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return backend
}

// strangers are recipients whose identity nobody here has.
func strangers(t *testing.T) age.Recipients {
	t.Helper()
	id, err := filippo.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	others, err := age.NewRecipients([]string{id.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	return others
}

// sign signs all manifests, and makes a signature needed.
func (f *faulted) sign(t *testing.T) (ours *signing.Signer) {
	t.Helper()
	ours, f.trust = newSigner(t), signing.NewTrust(false)
	f.trust.AddSigner(ours)
	for _, b := range f.backends {
		for _, key := range b.Keys() {
			if strings.HasPrefix(key, "default/") && strings.HasSuffix(key, ".json") {
				b.Set(key, ours.Sign(b.Content(key)))
			}
		}
	}
	return ours
}

func newSigner(t *testing.T) *signing.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signing.NewSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return signer
}
