package auth

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"
)

// revocations are the certificates that their CAs have taken back, by issuer and serial number.
type revocations map[string]bool

func revocationKey(rawIssuer []byte, serial string) string {
	return string(rawIssuer) + "\x00" + serial
}

// readRevocations reads the revocation lists in a file, PEM or DER. The file is believed as the CA file beside it is:
// it is the operator's. The time is when the first of the lists should have been renewed.
func readRevocations(file string) (revocations, time.Time, error) {
	var renew time.Time
	if file == "" {
		return nil, renew, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, renew, fmt.Errorf("read the revoked client certificates: %w", err)
	}
	blocks := [][]byte{data}
	if block, rest := pem.Decode(data); block != nil {
		for blocks = nil; block != nil; block, rest = pem.Decode(rest) {
			blocks = append(blocks, block.Bytes)
		}
	}
	all := revocations{}
	for _, der := range blocks {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, renew, fmt.Errorf("read the revoked client certificates: %s holds no revocation list: %w", file, err)
		}
		for _, r := range list.RevokedCertificateEntries {
			all[revocationKey(list.RawIssuer, r.SerialNumber.String())] = true
		}
		if !list.NextUpdate.IsZero() && (renew.IsZero() || list.NextUpdate.Before(renew)) {
			renew = list.NextUpdate
		}
	}
	return all, renew, nil
}

// has reports whether a certificate of a chain is revoked.
func (r revocations) has(chain []*x509.Certificate) bool {
	for _, cert := range chain {
		if r[revocationKey(cert.RawIssuer, cert.SerialNumber.String())] {
			return true
		}
	}
	return false
}
