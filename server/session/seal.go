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

// sealKey is a key that was read.
type sealKey struct {
	bytes []byte
	aead  cipher.AEAD
	file  string
	stamp string
}

// readKey reads a key from a file. Without one, it makes a random key, which no other process has.
func readKey(file string) (*sealKey, error) {
	k := &sealKey{file: file}
	secret := make([]byte, minKey)
	if file != "" {
		k.stamp = disk.Stamp(file)
		var err error
		if secret, err = os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("read the key of sessions: %w", err)
		}
		if len(secret) < minKey {
			return nil, fmt.Errorf("the key of sessions in %s has %d bytes, and %d are needed; make one with "+
				"openssl rand -base64 48", file, len(secret), minKey)
		}
	} else {
		_, _ = rand.Read(secret) // it never fails
	}
	var err error
	if k.bytes, err = hkdf.Key(sha256.New, secret, nil, "snapshotd console session", 32); err != nil {
		return nil, fmt.Errorf("derive the key of sessions: %w", err)
	}
	block, err := aes.NewCipher(k.bytes)
	if err != nil {
		return nil, fmt.Errorf("make the cipher of sessions: %w", err)
	}
	if k.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, fmt.Errorf("make the cipher of sessions: %w", err)
	}
	return k, nil
}

// use seals with a key from now on. A random one does not replace another random one.
func (s *seal) use(k *sealKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.aead != nil && s.file == "" && k.file == "" {
		return
	}
	s.file, s.stamp = k.file, k.stamp
	if bytes.Equal(k.bytes, s.key) {
		return
	}
	s.key, s.aead = k.bytes, k.aead
	s.generation++
}

// isShared reports whether the key is from a file: other replicas, and this one after a restart, accept the sessions.
func (s *seal) isShared() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file != ""
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
