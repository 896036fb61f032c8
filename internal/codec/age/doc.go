// Package age encrypts streams for age recipients and decrypts them with age identities. It knows native recipients
// (X25519 and hybrid post-quantum) and SSH keys, and no passphrases: whoever writes must not be able to read.
package age
