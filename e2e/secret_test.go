//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// secrets are those that any part of this suite gives to the program. Everything that it prints is searched for them:
// the log of each service, and the output of each command.
var secrets struct {
	sync.Mutex
	all []string
}

// plant notes a secret, and returns it.
func plant(secret string) string {
	secrets.Lock()
	defer secrets.Unlock()
	if !slices.Contains(secrets.all, secret) {
		secrets.all = append(secrets.all, secret)
	}
	return secret
}

// leaks returns the secrets that are in a text, in any usual form.
func leaks(text string) (found []string) {
	secrets.Lock()
	defer secrets.Unlock()
	for _, s := range secrets.all {
		forms := []string{
			s, url.QueryEscape(s), hex.EncodeToString([]byte(s)), base64.StdEncoding.EncodeToString([]byte(s)),
			base64.RawURLEncoding.EncodeToString([]byte(s)), strings.ToLower(s),
		}
		if slices.ContainsFunc(forms, func(form string) bool { return strings.Contains(text, form) }) {
			found = append(found, s)
		}
	}
	return found
}

// printsNoSecret checks what the program has printed.
func printsNoSecret(t *testing.T, what, text string) {
	t.Helper()
	for _, s := range leaks(text) {
		t.Errorf("%s prints the secret %s", what, s)
	}
}

func TestASecretThatIsPrintedIsFound(t *testing.T) {
	for _, v := range testenv.S3Env() {
		if secret, ok := strings.CutPrefix(v, "AWS_SECRET_ACCESS_KEY="); ok {
			for _, text := range []string{"key=" + secret + "\n", "?k=" + url.QueryEscape(secret), strings.ToLower(secret)} {
				if len(leaks(text)) != 1 {
					t.Errorf("it is not found in %q", text)
				}
			}
		}
	}
	if found := leaks("level=INFO msg=\"snapshot saved\""); len(found) > 0 {
		t.Errorf("nothing is taken for %q", found)
	}
}
