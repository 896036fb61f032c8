package config

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/loopback"
	"github.com/snapshotd/snapshotd/internal/schedule"
)

// Warnings returns the settings that are allowed and probably not meant, one line each, and the files with secrets, and
// directories, that every user of the machine can read or change. It looks at the modes of files and opens none. The
// service logs them when it starts.
func (c *Config) Warnings(now time.Time) []string {
	w := &warner{Config: c, now: now, files: map[string]bool{}, found: c.Risks()}
	if to := plaintext(c.AuditURL); to != "" {
		w.warn("audit_url", "audit records go to %s as plain text; write https://", to)
	}
	for i := range c.Clusters {
		w.cluster(&c.Clusters[i], fmt.Sprintf("clusters[%d]", i))
	}
	w.modes()
	return w.found
}

// warner collects warnings.
type warner struct {
	*Config
	now   time.Time
	files map[string]bool // that were looked at
	found []string
}

func (w *warner) warn(where, format string, args ...any) {
	if from := w.origins.of(where); strings.Contains(from, ":") {
		where = from + ": " + where
	}
	w.found = append(w.found, where+": "+fmt.Sprintf(format, args...))
}

func (w *warner) cluster(c *Cluster, at string) {
	if len(c.Schedules) == 0 {
		w.warn(at+".schedules", "cluster %q has no schedule: a snapshot is taken only when somebody asks for one", c.Name)
	}
	w.retention(c, at)
	w.password(c.Etcd, at+".etcd")
	w.password(c.Catalog.Etcd, at+".catalog")
	w.modesOf(c, at)
	w.schedules(c, at+".schedules")
	for i, b := range c.Backends {
		w.backend(c, b, fmt.Sprintf("%s.backends[%d]", at, i))
	}
}

func (w *warner) retention(c *Cluster, at string) {
	var forEver []string
	for _, b := range c.Backends {
		r := c.Retention
		if b.Retention != nil {
			r = *b.Retention
		}
		if !r.removes() {
			forEver = append(forEver, b.Name)
		}
	}
	if len(forEver) > 0 {
		w.warn(at+".retention", "cluster %q has no rule of retention for %s: snapshots stay there until the disk or the "+
			"budget is full", c.Name, strings.Join(forEver, ", "))
	}
}

// removes reports whether there is a rule by which a snapshot goes.
func (r Retention) removes() bool {
	return r.KeepLast > 0 || r.KeepHourly > 0 || r.KeepDaily > 0 || r.KeepWeekly > 0 || r.KeepMonthly > 0 ||
		r.KeepYearly > 0 || r.KeepWithin > 0 || r.RecoveryWindow > 0 || r.MaxTotalBytes > 0
}

// password warns of one that others can read, in a file or on its way.
func (w *warner) password(e Etcd, at string) {
	w.mode(at+".password_file", e.PasswordFile)
	if name, _, found := strings.Cut(w.origins.of(at+".password"), ":"); e.Password != "" && found {
		if i := slices.IndexFunc(w.watched, func(file string) bool { return strings.HasSuffix("/"+file, "/"+name) }); i >= 0 {
			w.mode(at+".password", w.watched[i])
		}
	}
	withTLS := e.CACert != "" || e.Cert != ""
	plain := func(ep string) bool {
		scheme, _, ok := strings.Cut(ep, "://")
		return scheme == "http" || !ok && !withTLS
	}
	if i := slices.IndexFunc(e.Endpoints, plain); i >= 0 && e.User != "" {
		w.warn(fmt.Sprintf("%s.endpoints[%d]", at, i),
			"the password of user %q goes to %s as plain text; turn TLS on in etcd and write https://", e.User, e.Endpoints[i])
	}
}

// modes warns of the modes of files and directories.
func (w *warner) modes() {
	w.mode("tls.key", w.TLS.Key)
	if w.Access != nil {
		w.mode("access.tokens_file", w.Access.TokensFile)
		w.mode("access.session_key_file", w.Access.SessionKey)
		for i, o := range w.Access.OIDC {
			if o.Login != nil {
				w.mode(fmt.Sprintf("access.oidc[%d].login.client_secret_file", i), o.Login.ClientSecret)
			}
		}
	}
	for i := range w.Clusters {
		c, at := &w.Clusters[i], fmt.Sprintf("clusters[%d]", i)
		w.mode(at+".etcd.password_file", c.Etcd.PasswordFile)
		w.mode(at+".catalog.password_file", c.Catalog.PasswordFile)
		w.modesOf(c, at)
		for j, b := range c.Backends {
			w.place(fmt.Sprintf("%s.backends[%d].url", at, j), b.URL)
		}
	}
	w.place("audit_url", w.AuditURL)
	w.dir("data_dir", w.DataDir)
	if w.AuditFile != "" {
		w.mode("audit_file", w.AuditFile)
		w.dir("audit_file", filepath.Dir(w.AuditFile))
	}
}

// modesOf warns of the modes of a cluster's keys.
func (w *warner) modesOf(c *Cluster, at string) {
	w.mode(at+".etcd.key", c.Etcd.Key)
	w.mode(at+".catalog.key", c.Catalog.Key)
	for i, f := range c.Encryption.IdentityFiles {
		w.mode(fmt.Sprintf("%s.encryption.identity_files[%d]", at, i), f)
	}
	w.mode(at+".signing.key_file", c.Signing.KeyFile)
}

// place warns of a directory of objects in which every user of the machine can put and replace files.
func (w *warner) place(at string, u URL) {
	if dir, ok := strings.CutPrefix(u.Reveal(), "file://"); ok {
		dir, _, _ = strings.Cut(dir, "?")
		w.dir(at, dir)
	}
}

// dir warns of a directory in which every user of the machine can put and replace files.
func (w *warner) dir(at, name string) {
	info, err := os.Stat(name)
	if name == "" || w.files[name] || err != nil || info.Mode().Perm()&0o002 == 0 {
		return
	}
	w.files[name] = true
	w.warn(at, "every user of this machine can put files into %s (mode %04o); chmod o-w %s",
		name, info.Mode().Perm(), name)
}

// mode warns of a file with a secret in it, if every user of the machine can read or change it.
func (w *warner) mode(at, name string) {
	if name == "" || w.files[name] {
		return
	}
	w.files[name] = true
	info, err := os.Stat(name)
	if err != nil {
		return // the service says so when it needs it; it may be on another machine
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o004 != 0:
		w.warn(at, "every user of this machine can read %s (mode %04o); chmod o= %s", name, mode, name)
	case mode&0o002 != 0:
		w.warn(at, "every user of this machine can change %s (mode %04o); chmod o= %s", name, mode, name)
	default:
		w.dir(at, filepath.Dir(name))
	}
}

// meetings is how many runs of a schedule are compared with those of another.
const meetings = 50

// schedules warns of a schedule whose runs all begin together with one of another: a cluster is saved by one at a time.
func (w *warner) schedules(c *Cluster, at string) {
	for i := range c.Schedules {
		for j := range c.Schedules {
			a, b := &c.Schedules[i], &c.Schedules[j]
			if i == j || a.Jitter > 0 || b.Jitter > 0 || i > j && w.meets(b, a) || !w.meets(a, b) {
				continue
			}
			w.warn(fmt.Sprintf("%s[%d].cron", at, i), "each run of schedule %q begins together with one of %q, and one of "+
				"them waits; move it by some minutes, or give it a jitter", a.Name, b.Name)
		}
	}
}

// meets reports whether each of the next runs of a begins when one of b does.
func (w *warner) meets(a, b *Schedule) bool {
	one, err := schedule.ParseSpec(a.Cron, a.TimeZone)
	if err != nil {
		return false
	}
	other, err := schedule.ParseSpec(b.Cron, b.TimeZone)
	if err != nil {
		return false
	}
	due := w.now
	for range meetings {
		if due = one.Next(due); due.IsZero() {
			return true // and all before it met
		}
		if !other.Meets(due, w.now) {
			return false
		}
	}
	return true
}

// backend warns of a bucket that is reached without TLS.
func (w *warner) backend(c *Cluster, b Backend, at string) {
	if to := plaintext(b.URL); to != "" && !c.Encryption.Enabled() {
		w.warn(at+".url", "snapshots go to %s as plain text, and they are not encrypted; write https://, or set "+
			"encryption", to)
	}
}

// plaintext returns the address of the server of a bucket that is reached without TLS over a network; else nothing.
func plaintext(place URL) string {
	u, err := url.Parse(place.Reveal())
	if err != nil {
		return ""
	}
	endpoint, err := url.Parse(u.Query().Get("endpoint"))
	if err != nil || endpoint.Scheme != "http" || loopback.Is(endpoint.Hostname()) {
		return ""
	}
	return net.JoinHostPort(endpoint.Hostname(), endpoint.Port())
}

// nextRuns is how many runs of each schedule are shown.
const nextRuns = 3

// WriteNextRuns prints when each schedule runs next, as comments of YAML.
func (c *Config) WriteNextRuns(out io.Writer, now time.Time) error {
	var lines []string
	add := func(cluster, what, cron, zone string, jitter time.Duration) {
		spec, err := schedule.ParseSpec(cron, zone)
		if err != nil {
			return // it was checked
		}
		var runs []string
		for due := spec.Next(now); !due.IsZero() && len(runs) < nextRuns; due = spec.Next(due) {
			runs = append(runs, due.UTC().Format(time.RFC3339))
		}
		line := fmt.Sprintf("#   %s of cluster %q: %s", what, cluster, strings.Join(runs, ", "))
		if jitter > 0 {
			line += fmt.Sprintf(", each up to %s later", jitter)
		}
		lines = append(lines, line)
	}
	for i := range c.Clusters {
		cl := &c.Clusters[i]
		for _, s := range cl.Schedules {
			add(cl.Name, fmt.Sprintf("schedule %q", s.Name), s.Cron, s.TimeZone, s.Jitter)
		}
		if cl.Scrub.Cron != "" {
			add(cl.Name, "the scrub", cl.Scrub.Cron, cl.Scrub.TimeZone, cl.Scrub.Jitter)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "# next runs:\n%s\n", strings.Join(lines, "\n"))
	return err
}
