package repository_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

const otherName = "on-demand-node-1-1700000600"

// forgeries returns documents that whoever can write to a backend can make of signed manifests, to be put beside the
// snapshot called name. swapped ones are whole, and signed for another place.
func forgeries(t *testing.T, rec *snapshot.Record, signer *signing.Signer) (swapped, broken map[string][]byte) {
	t.Helper()
	doc := encoded(t, rec, signer)
	other, moved := rec.Copy(), rec.Copy()
	other.Name, moved.Cluster = otherName, "other"
	at := bytes.Index(doc, []byte(`  "signature"`))
	body, line := string(doc[:at]), strings.TrimSuffix(string(doc[at:]), "\n}\n")
	unsigned := strings.TrimSuffix(body, ",\n")
	swapped = map[string][]byte{
		"of another name":    encoded(t, other, signer),
		"of another cluster": encoded(t, moved, signer),
	}
	broken = map[string][]byte{
		"twice":                    []byte(body + line + ",\n" + line + "\n}\n"),
		"moved to the front":       []byte(strings.Replace(unsigned, "{\n", "{\n"+line+",\n", 1) + "\n}\n"),
		"before another member":    []byte(body + line + ",\n  \"x\": 1\n}\n"),
		"beside another signature": []byte(strings.Replace(body, "{\n", "{\n  \"signature\": \"\",\n", 1) + line + "\n}\n"),
		"beside one by an escape":  []byte(strings.Replace(body, "{\n", "{\n  \"signatur\\u0065\": \"\",\n", 1) + line + "\n}\n"),
		"beside one in capitals":   []byte(strings.Replace(body, "{\n", "{\n  \"SIGNATURE\": \"\",\n", 1) + line + "\n}\n"),
		"on another line's end":    []byte(unsigned + "," + line + "\n}\n"),
		"cut off":                  doc[:len(doc)-20],
		"space behind it":          append(bytes.Clone(doc), ' '),
	}
	return swapped, broken
}

// signedPlace returns a place where only signed manifests are trusted, or where any are, with a snapshot.
func signedPlace(t *testing.T, trust *signing.Trust, signer *signing.Signer) (*place, *snapshot.Record) {
	t.Helper()
	p := newPlace(func(c *repository.Config) { c.Trust = trust })
	rec, _ := p.save(t, stream(4*page), snapshot.CompressionZstd)
	must(t, p.PutManifest(t.Context(), name, encoded(t, rec, signer)))
	return p, rec
}

// A manifest that was signed for another name or cluster is an error for all that read it, and no proof of anything.
func TestSignedManifestInAnothersPlace(t *testing.T) {
	signer, trust := newSigner(t)
	for _, rules := range []*signing.Trust{trust, nil} {
		p, rec := signedPlace(t, rules, signer)
		swapped, _ := forgeries(t, rec, signer)
		for what, doc := range swapped {
			must(t, p.PutManifest(t.Context(), name, doc))
			m, err := p.ReadManifest(t.Context(), name)
			wantReason(t, what, err, snapshot.ReasonChecksumMismatch)
			if !errors.Is(err, repository.ErrManifestUnusable) || m == nil {
				t.Errorf("%s: %+v, %v", what, m, err)
			}
			_, err = p.CheckManifest(t.Context(), rec)
			wantReason(t, what+", compared", err, snapshot.ReasonChecksumMismatch)
			if got, err := p.only(t); !snapshot.IsDamage(err) {
				t.Errorf("%s, listed: %+v, %v", what, got, err)
			}
			found, err := p.Probe(t.Context(), rec)
			if err != nil || !found.Data || found.Manifest {
				t.Errorf("%s, probed: %+v, %v", what, found, err)
			}
			wantReason(t, what+", to be removed", p.Removable(t.Context(), rec), snapshot.ReasonConflict)
		}
	}
}

// Two signed snapshots whose manifests were swapped are both damaged, and a probe sees whose the data is.
func TestSwappedManifests(t *testing.T) {
	signer, trust := newSigner(t)
	p, rec := signedPlace(t, trust, signer)
	other, object := record(t, stream(8*page), snapshot.CompressionZstd)
	other.Name = otherName
	must(t, p.PutData(t.Context(), other, bytes.NewReader(object), repository.PutDataOptions{}))
	must(t, p.PutManifest(t.Context(), name, encoded(t, other, signer)))
	must(t, p.PutManifest(t.Context(), otherName, encoded(t, rec, signer)))
	entries, err := p.Entries(t.Context())
	if err != nil || len(entries) != 2 {
		t.Fatalf("%+v, %v", entries, err)
	}
	for _, e := range entries {
		_, err := p.Record(t.Context(), e)
		wantReason(t, e.Name, err, snapshot.ReasonSnapshotUnreadable)
		wantText(t, e.Name, err, "the manifest is of ")
	}
	for _, r := range []*snapshot.Record{rec, other} {
		if found, err := p.Probe(t.Context(), r); err != nil || !found.Data || found.Manifest {
			t.Errorf("%s: %+v, %v", r.Name, found, err)
		}
	}
}

// A signature is the last member, on a line of its own, and the only one: anything else is trusted by nobody who has a
// key, and read by nobody else.
func TestSignatureInAnotherForm(t *testing.T) {
	signer, trust := newSigner(t)
	lenient := signing.NewTrust(true)
	lenient.AddSigner(signer)
	for _, rules := range []*signing.Trust{trust, lenient, nil} {
		reason, listed := snapshot.ReasonManifestUntrusted, snapshot.ReasonManifestUntrusted
		if rules == nil {
			reason, listed = snapshot.ReasonChecksumMismatch, snapshot.ReasonSnapshotUnreadable
		}
		p, rec := signedPlace(t, rules, signer)
		_, broken := forgeries(t, rec, signer)
		for what, doc := range broken {
			must(t, p.PutManifest(t.Context(), name, doc))
			_, err := p.ReadManifest(t.Context(), name)
			wantReason(t, what, err, reason)
			_, err = p.CheckManifest(t.Context(), rec)
			wantReason(t, what+", compared", err, reason)
			_, err = p.only(t)
			wantReason(t, what+", listed", err, listed)
			found, err := p.Probe(t.Context(), rec)
			if err != nil || !found.Data || found.Manifest {
				t.Errorf("%s, probed: %+v, %v", what, found, err)
			}
			// The data is that of the record all the same, and may be removed.
			if err := p.Removable(t.Context(), rec); err != nil {
				t.Errorf("%s, to be removed: %v", what, err)
			}
		}
	}
}
