package age

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// Identities are private keys. The zero value opens nothing.
type Identities struct {
	keys  []age.Identity
	names []string // of their recipients, as Recipients.Names has them
}

// Empty reports whether there are none.
func (i Identities) Empty() bool { return len(i.keys) == 0 }

// ReadIdentities reads files with private keys: those that age-keygen writes, of X25519 and hybrid keys, and SSH
// private keys (ed25519, RSA) without a passphrase. Errors do not repeat the content of the files.
func ReadIdentities(files ...string) (Identities, error) {
	var all Identities
	for _, file := range files {
		data, err := readKeyFile(file)
		if err != nil {
			return Identities{}, fmt.Errorf("read identities: %w", err)
		}
		if err := all.add(data); err != nil {
			return Identities{}, fmt.Errorf("read identities: %s: %w", file, err)
		}
	}
	return all, nil
}

// Of reports whether one of the identities is that of one of the recipients.
func (i Identities) Of(recipients []string) bool {
	return slices.ContainsFunc(i.names, func(name string) bool { return slices.Contains(recipients, name) })
}

func (i *Identities) add(data []byte) error {
	text := string(bytes.TrimSpace(data))
	switch {
	case text == "":
		return errors.New("it is empty")
	case strings.HasPrefix(text, "age-encryption.org/"), strings.HasPrefix(text, "-----BEGIN AGE ENCRYPTED FILE-----"):
		return errors.New("it is encrypted; decrypt it with age first")
	case strings.HasPrefix(text, "-----BEGIN"):
		return i.addSSH(data)
	case strings.HasPrefix(text, "ssh-"), strings.HasPrefix(text, "age1"):
		return errors.New("it has a public key in it; the private key is needed")
	}
	keys, err := age.ParseIdentities(strings.NewReader(strings.ReplaceAll(text, "\r\n", "\n")))
	if err != nil {
		return fmt.Errorf("it has no age identities in it, AGE-SECRET-KEY-…: %w", err)
	}
	i.keys = append(i.keys, keys...)
	for _, key := range keys {
		switch key := key.(type) {
		case *age.X25519Identity:
			i.names = append(i.names, key.Recipient().String())
		case *age.HybridIdentity:
			i.names = append(i.names, key.Recipient().String())
		}
	}
	return nil
}

func (i *Identities) addSSH(data []byte) error {
	signer, err := ssh.ParsePrivateKey(data)
	if _, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); encrypted {
		return errors.New("it is an SSH key with a passphrase; take the passphrase off a copy of it with ssh-keygen -p")
	}
	var key age.Identity
	if err == nil {
		key, err = agessh.ParseIdentity(data)
	}
	if err != nil {
		return fmt.Errorf("it is no SSH key of type ed25519 or RSA: %w", err)
	}
	i.keys = append(i.keys, key)
	i.names = append(i.names, nameOf(signer.PublicKey()))
	return nil
}
