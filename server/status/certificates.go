package status

import "time"

// A certificate that is not renewed by then needs a person: those that live for hours are renewed by a machine, at a
// half or two thirds of their time.
const (
	renewBefore = 7 * 24 * time.Hour // before the end
	renewShare  = 5                  // at the latest when a fifth of its time is left
)

// RenewBy returns the time from which on a certificate that is not renewed needs a person.
func (c Certificate) RenewBy() time.Time {
	return c.End.Add(-min(renewBefore, c.End.Sub(c.Begin)/renewShare))
}

// Ends reports whether a certificate ends soon, or has ended.
func (c Certificate) Ends(now time.Time) bool { return now.After(c.RenewBy()) }

// renewal says how a new certificate takes effect.
func (c Certificate) renewal() string {
	if c.Copied {
		return "that file is a copy, which systemd made at the start: renew its source, which LoadCredential= of the unit " +
			"names, and restart the service"
	}
	return "the file is read again with each new connection"
}

// certificates finds client certificates that end soon. Connections that are open go on with one that has expired, so
// that nothing else tells of it before the next save.
func (v *verdict) certificates() {
	for _, c := range v.known.Certificates {
		if !c.Ends(v.now) {
			continue
		}
		if left := c.End.Sub(v.now); left > 0 {
			v.find(Attention, nil, "The client certificate for etcd, %s, expires in %s, at %s. Renew it before; %s.",
				c.File, round(left), minute(c.End), c.renewal())
			continue
		}
		v.find(Attention, nil, "The client certificate for etcd, %s, expired at %s, and new connections to etcd fail. "+
			"Renew it; %s.", c.File, minute(c.End), c.renewal())
	}
}
