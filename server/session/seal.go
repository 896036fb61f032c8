package session

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"github.com/snapshotd/snapshotd/internal/disk"
)

// minKey is how many bytes the file of a key has at least, with room for 32 random ones as text.
const minKey = 32

// seal hides values from browsers, and knows again those that it has sealed itself.
type seal struct {
	mu         sync.Mutex
	aead       cipher.AEAD // nil until there is a key
	key        []byte
	file       string // of the key; empty when it is a random one
	stamp      string // of the file as it was last read
	generation int    // counts the keys
}

// setKey reads the key. Without a file there is a random one, which no other process has.
func (s *seal) setKey(file string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret := make([]byte, minKey)
	stamp := ""
	switch {
	case file != "":
		stamp = disk.Stamp(file)
		var err error
		if secret, err = os.ReadFile(file); err != nil {
			return fmt.Errorf("read the key of sessions: %w", err)
		}
		if len(secret) < minKey {
			return fmt.Errorf("the key of sessions in %s has %d bytes, and %d are needed; make one with "+
				"openssl rand -base64 48", file, len(secret), minKey)
		}
	case s.aead != nil && s.file == "":
		return nil // the random one stays
	default:
		_, _ = rand.Read(secret) // it never fails
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "snapshotd console session", 32)
	if err != nil {
		return fmt.Errorf("derive the key of sessions: %w", err)
	}
	s.file, s.stamp = file, stamp
	if bytes.Equal(key, s.key) {
		return nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("make the cipher of sessions: %w", err)
	}
	if s.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return fmt.Errorf("make the cipher of sessions: %w", err)
	}
	s.key = key
	s.generation++
	return nil
}

// changed returns the file of the key when it is another one than it was; else nothing. It returns each change once.
func (s *seal) changed() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == "" {
		return ""
	}
	if stamp := disk.Stamp(s.file); stamp != s.stamp {
		s.stamp = stamp
		return s.file
	}
	return ""
}

// current returns which key it is.
func (s *seal) current() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// close seals a value for the cookie of a name. In another cookie it is not good.
func (s *seal) close(name string, v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode the cookie %s: %w", name, err)
	}
	s.mu.Lock()
	aead := s.aead
	s.mu.Unlock()
	sealed := aead.Seal(nil, nil, plain, []byte(name)) //nolint:gosec // it makes a random nonce by itself, and takes none
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// open reads a value, and reports whether it was sealed with the key for the cookie of the name.
func (s *seal) open(name, text string, v any) bool {
	s.mu.Lock()
	aead := s.aead
	s.mu.Unlock()
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	plain, err := aead.Open(nil, nil, sealed, []byte(name))
	return err == nil && json.Unmarshal(plain, v) == nil
}
