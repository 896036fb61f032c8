package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/snapshotd/snapshotd/internal/disk"
)

// tokenPrefix begins every token, so that programs that search for lost secrets find it.
const tokenPrefix = "sdt"

// maxTokens is far above the size of a file of tokens.
const maxTokens = 4 << 20

// Token is a bearer token as its file has it. The secret is in no file of the service: 256 random bits have no need of
// a slow hash.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"` // of the principal; several tokens may have one, while one replaces the other
	SHA256  string    `json:"sha256"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

// expired reports whether the token is not good any more.
func (t *Token) expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// tokenFile is the content of a file of tokens.
type tokenFile struct {
	Tokens []Token `json:"tokens"`
}

// ReadTokens returns the tokens of a file.
func ReadTokens(file string) ([]Token, error) {
	f, err := os.Open(file) // it may be a link, as in volumes of Kubernetes
	if err != nil {
		return nil, fmt.Errorf("read the tokens: %w", err)
	}
	defer func() { _ = f.Close() }() // a file that was only read
	data, err := io.ReadAll(io.LimitReader(f, maxTokens+1))
	if err != nil {
		return nil, fmt.Errorf("read the tokens: %w", err)
	}
	if len(data) > maxTokens {
		return nil, fmt.Errorf("read the tokens: %s has more than %d bytes", file, maxTokens)
	}
	return parseTokens(data, file)
}

// parseTokens reads the content of a file of tokens, and refuses all of it when one token is wrong. Its values are not
// shown.
func parseTokens(data []byte, file string) ([]Token, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var content tokenFile
	if err := dec.Decode(&content); err != nil {
		return nil, fmt.Errorf("read the tokens: %s is no file of tokens, or a damaged one: %w", file, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the tokens: %s has more than one value in it", file)
	}
	seen := map[string]bool{}
	for _, t := range content.Tokens {
		sum, err := hex.DecodeString(t.SHA256)
		if t.ID == "" || t.Name == "" || seen[t.ID] || err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("read the tokens: %s: the token %.40q has no name, no checksum, or the id of another one",
				file, t.ID)
		}
		seen[t.ID] = true
	}
	return content.Tokens, nil
}

// NewToken returns a token, and the secret text that its owner sends.
func NewToken(name string, now, expires time.Time) (t Token, secret string) {
	id, key := make([]byte, 6), make([]byte, 32)
	_, _ = rand.Read(id) // it never fails
	_, _ = rand.Read(key)
	t = Token{
		ID: hex.EncodeToString(id), Name: name,
		Created: now.UTC().Truncate(time.Second), Expires: expires.UTC().Truncate(time.Second),
	}
	if expires.IsZero() {
		t.Expires = time.Time{}
	}
	secret = tokenPrefix + "_" + t.ID + "_" + base64.RawURLEncoding.EncodeToString(key)
	sum := sha256.Sum256([]byte(secret))
	t.SHA256 = hex.EncodeToString(sum[:])
	return t, secret
}

// ValidTokenName reports whether a token may have a name: one that stands for itself in a pattern, a log and a table.
func ValidTokenName(name string) bool {
	const special = "._-:"
	for _, c := range name {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && !strings.ContainsRune(special, c) {
			return false
		}
	}
	return name != "" && len(name) <= 100
}

// find returns the token that a secret text is of, or nil. Its time does not depend on how much of the secret is right.
func find(tokens map[string]*Token, secret string) *Token {
	sum := sha256.Sum256([]byte(secret))
	rest, _ := strings.CutPrefix(secret, tokenPrefix+"_")
	id, _, _ := strings.Cut(rest, "_")
	t, ok := tokens[id]
	want := make([]byte, sha256.Size)
	if ok {
		_, _ = hex.Decode(want, []byte(t.SHA256)) // it was checked when it was read
	}
	if subtle.ConstantTimeCompare(sum[:], want) != 1 || !ok {
		return nil
	}
	return t
}

// ChangeTokens replaces the tokens of a file by what change returns for them. The file is made if it is missing,
// readable by its owner alone, and replaced in one step: a reader sees all of it as it was before, or as it is after.
// An existing file keeps its owner.
func ChangeTokens(file string, change func([]Token) ([]Token, error)) error {
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("change the tokens: %w", err)
	}
	defer func() { _ = dir.Close() }() // releases the lock
	if err := disk.Lock(dir); err != nil {
		return fmt.Errorf("change the tokens: lock %s: %w; try again", dir.Name(), err)
	}
	tokens, err := ReadTokens(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if tokens, err = change(tokens); err != nil {
		return err
	}
	data, err := json.MarshalIndent(tokenFile{Tokens: append([]Token{}, tokens...)}, "", "  ")
	if err != nil {
		return fmt.Errorf("change the tokens: %w", err)
	}
	if err := replace(file, append(data, '\n')); err != nil {
		return fmt.Errorf("change the tokens: %w", err)
	}
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("change the tokens: sync %s: %w", dir.Name(), err)
	}
	return nil
}

// replace writes a file beside the one of that name, and renames it.
func replace(file string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), ".tokens-*") // mode 0600, whatever the umask
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := keepOwner(f, file); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// keepOwner gives a file the owner of the one that it will replace: the service may run as another user than the
// operator, and must still be able to read it.
func keepOwner(f *os.File, replaced string) error {
	old, err := os.Stat(replaced)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	owner, ok := old.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Geteuid() && int(owner.Gid) == os.Getegid() {
		return nil
	}
	if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("keep the owner of %s: %w; change it as that user, or as root", replaced, err)
	}
	return nil
}
