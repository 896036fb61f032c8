package daemon

import (
	"fmt"
	"os"
	"slices"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/repository/signing"
)

// keys are what a cluster's objects are encrypted and read with, and its manifests signed and trusted by.
type keys struct {
	recipients age.Recipients
	identities age.Identities
	signer     *signing.Signer // nil and nil without a key
	trust      *signing.Trust
}

// keysOf reads the keys of a cluster.
func keysOf(cfg *config.Cluster) (keys, error) {
	recipients, err := recipientsOf(cfg.Encryption)
	if err != nil {
		return keys{}, err
	}
	identities, err := age.ReadIdentities(cfg.Encryption.IdentityFiles...)
	if err != nil {
		return keys{}, fmt.Errorf("read the identities to verify with: %w (encryption.identity_files)", err)
	}
	signer, trust, err := signingOf(cfg.Signing)
	if err != nil {
		return keys{}, err
	}
	return keys{recipients: recipients, identities: identities, signer: signer, trust: trust}, nil
}

// recipientsOf returns the recipients for whom a cluster's snapshots are encrypted. Encryption that was asked for and
// is impossible is always an error: plaintext is never the way out.
func recipientsOf(cfg config.Encryption) (age.Recipients, error) {
	if !cfg.Enabled() {
		return age.Recipients{}, nil
	}
	keys := slices.Clone(cfg.Recipients)
	if cfg.RecipientsFile != "" {
		more, err := age.ReadRecipients(cfg.RecipientsFile)
		if err != nil {
			return age.Recipients{}, fmt.Errorf("read the recipients of encryption: %w (encryption.recipients_file, "+
				"--encryption-recipients-file)", err)
		}
		keys = append(keys, more...)
	}
	recipients, err := age.NewRecipients(keys)
	if err != nil {
		return age.Recipients{}, fmt.Errorf("encrypt: %w (encryption, --encryption-recipient, --encryption-recipients-file)",
			err)
	}
	return recipients, nil
}

// signingOf returns the signer of a cluster's manifests, and the trust in signatures; nil and nil without a key.
func signingOf(cfg config.Signing) (*signing.Signer, *signing.Trust, error) {
	if cfg.KeyFile == "" {
		return nil, nil, nil
	}
	text, err := os.ReadFile(cfg.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("read the key that signs manifests: %w (signing.key_file, --signing-key-file)", err)
	}
	signer, err := signing.NewSigner(text)
	if err != nil {
		return nil, nil, fmt.Errorf("read the key that signs manifests: %s: %w (signing.key_file, --signing-key-file)",
			cfg.KeyFile, err)
	}
	trust := signing.NewTrust(cfg.AcceptUnsigned)
	trust.AddSigner(signer)
	for _, file := range cfg.PublicKeyFiles {
		text, err := os.ReadFile(file)
		if err == nil {
			err = trust.Add(text)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read a key whose signatures are trusted: %s: %w (signing.public_key_files, "+
				"--signing-public-key-file)", file, err)
		}
	}
	return signer, trust, nil
}
