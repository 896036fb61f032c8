package telemetry

import (
	"fmt"
	"regexp"
	"strings"
)

// Words of letters and digits with one '_' between them. Prometheus allows more, but the exporter would drop leading
// and repeated underscores from the configured prefix, and colons belong to recording rules.
var prefixPattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*_?$`)

// ValidPrefix returns an error when a metrics prefix is not allowed.
func ValidPrefix(prefix string) error {
	if prefix != "" && !prefixPattern.MatchString(prefix) {
		return fmt.Errorf("metrics prefix %q is not one of Prometheus: "+
			"letters, digits and single '_', a letter first, such as k3s_", prefix)
	}
	return nil
}

// namespace returns the prefix as the exporter wants it: it adds the '_' itself.
func namespace(prefix string) string { return strings.TrimSuffix(prefix, "_") }
