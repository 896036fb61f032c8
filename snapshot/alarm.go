package snapshot

import "strings"

// AlarmNote tells a person the alarms in a database, and their effect on a restore. It goes on from a subject, such as
// "it" or "the snapshot".
func AlarmNote(alarms []string) string {
	refuses := "writes"
	for _, a := range alarms {
		if strings.HasPrefix(a, "CORRUPT ") {
			refuses = "reads and writes"
		}
	}
	return "has the alarm " + Join(alarms) + " in it: an etcd that is restored from it refuses " + refuses +
		" until `etcdctl alarm disarm`; restore --disarm leaves the alarm out"
}
