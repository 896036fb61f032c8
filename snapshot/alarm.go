package snapshot

import "strings"

// AlarmNote says for a person which alarms are in a database and what a restore of it comes to. It goes on from a
// subject, such as "it" or "the snapshot".
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
