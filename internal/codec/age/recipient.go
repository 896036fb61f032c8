package age

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// maxKeyFile is far more than a file with keys has.
const maxKeyFile = 1 << 20

// ErrPrivate: a private key was given as a public one. It is never shown.
var ErrPrivate = errors.New("is a private key (an identity); give the public key of it, and consider this one " +
	"exposed if others can read the configuration")

// Recipients are those who can read the encrypted data. The zero value encrypts nothing.
type Recipients struct {
	keys  []age.Recipient
	names []string
}

// Names returns the public keys, as they can be given again: age1…, or an SSH key's type and key without its comment.
func (r Recipients) Names() []string { return r.names }

// NewRecipients reads the public keys of those who are to read the encrypted data, each of them age1…, ssh-ed25519 … or
// ssh-rsa …, and proves that data can be encrypted for all of them together. It is an error when there are none. Errors
// do not repeat what was given.
func NewRecipients(keys []string) (Recipients, error) {
	var r Recipients
	for i, k := range keys {
		if err := r.add(k); err != nil {
			return Recipients{}, fmt.Errorf("recipient %d %w", i+1, err)
		}
	}
	if len(r.keys) == 0 {
		return Recipients{}, errors.New("there are no recipients; give at least one public key, such as age-keygen prints")
	}
	w, err := r.NewWriter(io.Discard)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		// Such as hybrid recipients beside others, which would undo what they are for.
		return Recipients{}, fmt.Errorf("no data can be encrypted for these recipients together: %w", err)
	}
	return r, nil
}

// ReadRecipients returns the keys in a file: one a line, empty lines and those that begin with '#' aside. Each of them
// is valid by itself. Errors name the file and the line and do not repeat what is in it.
func ReadRecipients(file string) ([]string, error) {
	data, err := readKeyFile(file)
	if err != nil {
		return nil, err
	}
	var keys []string
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxKeyFile+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if _, _, err := parseRecipient(line); err != nil {
			return nil, fmt.Errorf("%s:%d: the recipient %w", file, n, err)
		}
		keys = append(keys, line)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no recipients in it", file)
	}
	return keys, nil
}

// CheckRecipient returns an error that says why a public key cannot be used.
func CheckRecipient(key string) error {
	_, _, err := parseRecipient(key)
	return err
}

func (r *Recipients) add(key string) error {
	parsed, name, err := parseRecipient(key)
	if err != nil {
		return err
	}
	for _, n := range r.names {
		if n == name {
			return nil // given twice, in the configuration and its file for example
		}
	}
	r.keys, r.names = append(r.keys, parsed), append(r.names, name)
	return nil
}

// parseRecipient returns a recipient, and the key by which a person finds the identity.
func parseRecipient(key string) (age.Recipient, string, error) {
	key = strings.TrimSpace(key)
	upper := strings.ToUpper(key)
	switch {
	case key == "":
		return nil, "", errors.New("is empty")
	case strings.HasPrefix(upper, "AGE-SECRET-KEY-"), strings.HasPrefix(upper, "AGE-PLUGIN-"),
		strings.Contains(key, "PRIVATE KEY"):
		return nil, "", ErrPrivate
	case strings.ContainsAny(key, "\r\n"):
		return nil, "", errors.New("has more than one line; give each recipient by itself")
	case strings.HasPrefix(key, "age1pq1"):
		if p, err := age.ParseHybridRecipient(key); err == nil {
			return p, p.String(), nil
		}
		return nil, "", errors.New("is damaged: it begins like a hybrid age key and is none")
	case strings.HasPrefix(key, "age1"):
		if p, err := age.ParseX25519Recipient(key); err == nil {
			return p, p.String(), nil
		}
		return nil, "", errors.New("is damaged, or the key of an age plugin, which is not supported")
	case strings.HasPrefix(key, "ssh-"):
		return parseSSH(key)
	default:
		return nil, "", errors.New("is no public key of age (age1…) or SSH (ssh-ed25519 …, ssh-rsa …); " +
			"passphrases are not supported")
	}
}

func parseSSH(key string) (age.Recipient, string, error) {
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key))
	if err != nil {
		return nil, "", errors.New("is damaged: it begins like an SSH key and is none")
	}
	var p age.Recipient // not parsed by agessh, whose errors repeat the key
	if public.Type() == ssh.KeyAlgoRSA {
		p, err = agessh.NewRSARecipient(public)
	} else {
		p, err = agessh.NewEd25519Recipient(public)
	}
	if err != nil {
		return nil, "", fmt.Errorf("is an SSH key of type %s that data cannot be encrypted for: %w", public.Type(), err)
	}
	return p, nameOf(public), nil
}

// nameOf returns an SSH key without its comment.
func nameOf(public ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

// Short returns a public key for a person: of a long one both ends, which are enough to find it. Keys of SSH's RSA and
// hybrid keys have hundreds of characters.
func Short(key string) string {
	const ends = 40
	if len(key) <= 2*ends+10 {
		return key
	}
	return key[:ends] + "…" + key[len(key)-ends:]
}

func readKeyFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("%s is larger than %d bytes; that is no file with keys", file, maxKeyFile)
	}
	return data, nil
}
