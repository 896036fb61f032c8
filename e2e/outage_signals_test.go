//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// config is a configuration of Prometheus at a pace.
func (p pace) config(t *testing.T, addr string) string {
	t.Helper()
	config := prometheusConfig(t, addr, "", func(rules string) string {
		if !p.atOnce {
			return rules
		}
		return regexp.MustCompile(`(?m)^ +for: .*\n`).ReplaceAllString(rules, "")
	})
	return strings.ReplaceAll(config, "_interval: 1s", "_interval: "+p.scrape)
}

const outageHead = `| outage | metric | alert pending | alert fires | ` + "`status`" + ` | console | commands | metric | alert | ` + "`status`" + ` | console |
|---|---|---|---|---|---|---|---|---|---|---|`

// drill breaks something, waits until it is told, does what the words ask for, waits until all is said to be well, and
// returns how long each took: a row of a table.
func (o *outages) drill(out outage) string {
	o.t.Helper()
	out.breaks(o)
	active := fmt.Sprintf(`ALERTS{alertname=%q}`, out.alert)
	firing := fmt.Sprintf(`ALERTS{alertname=%q,alertstate="firing"}`, out.alert)
	var words string
	told := o.await(out.name+": it is told", map[string]func() bool{
		"metric": func() bool { return o.asked(out.metric) }, "pending": func() bool { return o.asked(active) },
		"firing": func() bool { return o.asked(firing) },
		"status": func() bool {
			r := o.service.run("status")
			words = r.stdout
			return r.code != 0 && containsAll(r.stdout, out.says)
		},
	}, func() bool { return containsAll(o.console.text("#view"), out.says) }, &words)
	o.alertLeadsOn(out)
	o.t.Logf("%s; status says\n%s", out.name, words)

	out.mends(o)
	var followed []string
	mended := o.await(out.name+": all is well again", map[string]func() bool{
		"metric": func() bool { return o.asked("up == 1") && !o.asked(out.metric) },
		"alert":  func() bool { return o.asked("up == 1") && !o.asked(active) },
		"status": func() bool {
			r := o.service.run("status")
			words = r.stdout
			if r.code != 0 {
				followed = append(followed, o.follow(r.stdout)...)
			}
			return r.code == 0
		},
	}, func() bool {
		return containsAll(o.console.text("#view"), []string{"SAFE", "Nothing to be done"})
	}, &words)
	slices.Sort(followed)
	commands := strings.Join(slices.Compact(followed), ", ")
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |", out.name, told["metric"], told["pending"], told["firing"],
		told["status"], told["console"], commands, mended["metric"], mended["alert"], mended["status"], mended["console"])
}

func containsAll(text string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}

// asked reports whether a query has a result.
func (o *outages) asked(query string) bool {
	v, err := o.prometheus.Query(query)
	return err == nil && len(v) > 0
}

// await waits until all signals are there, and returns how long each took. The console is asked by the test's own
// goroutine. Meanwhile, /readyz says that the service serves.
func (o *outages) await(what string, signals map[string]func() bool, console func() bool, words *string) map[string]string {
	o.t.Helper()
	began := time.Now()
	var mu sync.Mutex
	told := map[string]string{}
	until := func(name string, there func() bool) {
		for !there() {
			if time.Since(began) > o.pace.limit || o.t.Context().Err() != nil {
				return
			}
			time.Sleep(200 * time.Millisecond) // polling with a deadline; nothing is concluded from time
		}
		mu.Lock()
		defer mu.Unlock()
		told[name] = fmt.Sprintf("%.0f s", time.Since(began).Seconds())
	}
	var wg sync.WaitGroup
	for name, there := range signals {
		wg.Go(func() { until(name, there) })
	}
	until("console", func() bool { return o.serves() && console() })
	wg.Wait()
	if len(told) <= len(signals) {
		o.t.Fatalf("%s: after %s, only these have seen it: %v; alerts %v; status says\n%s\nand the console\n%s", what, o.pace.limit,
			slices.Sorted(maps.Keys(told)), firingAlerts(o.t, o.prometheus), *words, o.console.text("#view"))
	}
	return told
}

// serves reports whether /readyz says that the service serves. Not to say so is a failure of the test.
func (o *outages) serves() bool {
	resp, err := http.Get("http://" + o.service.http + "/readyz")
	if err != nil {
		o.t.Errorf("/readyz: %v", err)
		return false
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		o.t.Errorf("/readyz: %s", resp.Status)
	}
	return resp.StatusCode == http.StatusOK
}

// advised is a command in the words of `status`, and of an alert.
var (
	advised       = regexp.MustCompile(`(?m)^    snapshotd (.*)$`)
	quotedCommand = regexp.MustCompile(`"snapshotd ([^"]*)"`)
)

// follow runs the commands of `status`, as a person would copy them, and returns those that succeeded.
func (o *outages) follow(words string) (done []string) {
	for _, m := range advised.FindAllStringSubmatch(words, -1) {
		args := strings.Fields(m[1])
		run := o.service.run
		if slices.Contains(args, "--from") {
			run = func(args ...string) result { return command(o.t.Context(), o.t, o.service.path, args...) }
		}
		if run(args...).code == 0 {
			done = append(done, "`"+varying.ReplaceAllString(m[1], "…")+"`")
		}
	}
	return done
}

// varying are the parts of a command that differ from run to run.
var varying = regexp.MustCompile(`file:\S+|\S+-node-\d-\d+`)

// alertLeadsOn runs the first command that the alert names: it says what is broken.
func (o *outages) alertLeadsOn(out outage) {
	o.t.Helper()
	for _, r := range o.prometheus.Rules() {
		if r.Name != out.alert {
			continue
		}
		for _, a := range r.Alerts {
			m := quotedCommand.FindStringSubmatch(a.Annotations["description"])
			if m == nil {
				o.t.Errorf("%s names no command: %v", out.alert, a.Annotations)
				continue
			}
			if said := o.service.run(strings.Fields(m[1])...); !containsAll(said.stdout, out.says) {
				o.t.Errorf("%s leads to snapshotd %s, which does not say %q:\n%s%s", out.alert, m[1], out.says, said.stdout, said.stderr)
			}
			o.t.Logf("%s: %s %s", out.alert, a.Annotations["summary"], a.Annotations["description"])
		}
	}
}
