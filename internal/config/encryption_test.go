package config_test

import (
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
)

const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

func withEncryption(section string) string {
	return strings.Replace(one, "    backends:\n", "    encryption:"+section+"\n    backends:\n", 1)
}

func TestRecipientsFromFlagsVariablesAndTheFile(t *testing.T) {
	const ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIEs5Q8vOsFQCyzGrWfNqGGe6S3EKLe8z0ZHVjhQjMyh somebody@somewhere"
	for name, g := range map[string]given{
		"file":     {yaml: withEncryption(" {recipients: ['" + recipient + "', '" + ssh + "']}")},
		"flags":    {yaml: one, args: []string{"--encryption-recipient", recipient, "--encryption-recipient", ssh}},
		"variable": {yaml: one, env: map[string]string{"SNAPSHOTD_ENCRYPTION_RECIPIENT": recipient + ", " + ssh}},
	} {
		cfg := mustLoad(t, g)
		if got := cfg.Clusters[0].Encryption.Recipients; !slices.Equal(got, []string{recipient, ssh}) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A configuration that asks for encryption gets it, or an error; it never gets plaintext, and no error shows a secret.
func TestEncryptionThatCannotBeHad(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		given
		want string
	}{
		"nothing":         {given{yaml: withEncryption("")}, "clusters[0].encryption: asks for encryption"},
		"empty section":   {given{yaml: withEncryption(" {}")}, "asks for encryption"},
		"empty list":      {given{yaml: withEncryption(" {recipients: []}")}, "asks for encryption"},
		"list of nothing": {given{yaml: withEncryption("\n      recipients:")}, "asks for encryption"},
		"no file":         {given{yaml: withEncryption(" {recipients_file: ''}")}, "asks for encryption"},
		"empty flag":      {given{yaml: one, args: []string{"--encryption-recipient="}}, "--encryption-recipient: is empty"},
		"empty file flag": {given{yaml: one, args: []string{"--encryption-recipients-file="}}, "asks for encryption"},
		"rubbish":         {given{yaml: one, args: []string{"--encryption-recipient=hunter2"}}, "is no public key"},
		"private": {given{yaml: withEncryption(" {recipients: [" + id.String() + "]}")},
			"recipients[0]: is a private key"},
		"private in place": {given{yaml: withEncryption(" {recipients_file: " + id.String() + "}")},
			"recipients_file: is a private key"},
	} {
		got := strings.Join(problems(t, tt.given), "\n")
		if !strings.Contains(got, tt.want) || strings.Contains(got, "hunter2") || strings.Contains(got, id.String()) {
			t.Errorf("%s: %s; want %q", name, got, tt.want)
		}
	}
}
