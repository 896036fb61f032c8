package telemetry

import (
	"cmp"
	"os"
	"slices"
	"strings"
)

// redacted stands for a secret wherever one would be shown.
const redacted = "<redacted>"

// withoutSecrets returns a text of OpenTelemetry without the secrets in it: the library repeats what it cannot read of
// its variables, and headers have tokens in them, and endpoints passwords.
func withoutSecrets(text string) string {
	for _, secret := range secrets() {
		text = strings.ReplaceAll(text, secret, redacted)
	}
	return text
}

// leastSecret is the length of the shortest text that is taken for a secret: a shorter one is in many words.
const leastSecret = 4

// secrets returns the texts in the variables of OTLP that may be secrets, the longest first.
func secrets() []string {
	var all []string
	for _, signal := range []string{"", "_" + signalTraces, "_" + signalMetrics, "_" + signalLogs} {
		if endpoint := os.Getenv("OTEL_EXPORTER_OTLP" + signal + "_ENDPOINT"); strings.Contains(endpoint, "@") {
			all = append(all, strings.TrimSpace(endpoint))
		}
		for header := range strings.SplitSeq(os.Getenv("OTEL_EXPORTER_OTLP"+signal+"_HEADERS"), ",") {
			key, value, ok := strings.Cut(header, "=")
			if !ok || strings.ContainsAny(strings.TrimSpace(key), ": ") { // such as Authorization: Bearer TOKEN
				all = append(all, strings.TrimSpace(key))
			}
			all = append(all, strings.TrimSpace(value))
		}
	}
	all = slices.DeleteFunc(all, func(s string) bool { return len(s) < leastSecret })
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return all
}
