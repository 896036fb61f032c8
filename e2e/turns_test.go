//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// turns measures contenders in turns.
type turns struct {
	t          *testing.T
	contenders []contender
	cleanUp    func() // removes the files of a turn and waits until the disk is idle, so that no turn pays for another

	took  map[string][]time.Duration
	busy  map[string][]float64 // used share of the processors, by all processes
	begin time.Time            // of the first round that counts
}

type contender struct {
	name, what string
	run        func()
	follows    bool // it reads the files of the one before it
}

// take gives each program a turn that does not count, for everything that is built, opened or cached once, and then as
// many turns as there are rounds.
func (b *turns) take(rounds int64) {
	b.t.Helper()
	b.took, b.busy = map[string][]time.Duration{}, map[string][]float64{}
	b.round(nil)
	b.begin = time.Now()
	for range rounds {
		b.round(b.note)
	}
}

// round gives each its turn; note, unless it is nil, is told how long it took and how busy the machine was.
func (b *turns) round(note func(c contender, d time.Duration, busy float64)) {
	b.t.Helper()
	defer b.lock()()
	for _, c := range b.contenders {
		if !c.follows {
			b.cleanUp()
			warm(b.t)
		}
		used, all := processors(b.t)
		begin := time.Now()
		c.run()
		d := time.Since(begin)
		used2, all2 := processors(b.t)
		if note != nil {
			note(c, d, (used2-used)/(all2-all))
		}
	}
	b.cleanUp()
}

// warm uses more memory than a turn with the default size does, page cache included, and gives it back. A virtual
// machine may have returned unused memory to its host, and the first program to use it again would pay for that.
func warm(t *testing.T) {
	t.Helper()
	const size = 4 << 30
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
	if err == nil {
		err = unix.Munmap(memory)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (b *turns) note(c contender, d time.Duration, busy float64) {
	b.took[c.name] = append(b.took[c.name], d)
	b.busy[c.name] = append(b.busy[c.name], busy)
	b.t.Logf("%-9s %6.2f s, processors %3.0f %% busy", c.name, d.Seconds(), busy*100)
}

// lock takes the lock that SNAPSHOTD_E2E_LOCK names, if it does.
func (b *turns) lock() (unlock func()) {
	name := os.Getenv("SNAPSHOTD_E2E_LOCK")
	if name == "" {
		return func() {}
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return func() { _ = f.Close() }
}

// table is the measurements, as Markdown.
func (b *turns) table() string {
	var out strings.Builder
	fmt.Fprintln(&out, "| | | median | all | processors busy |\n|---|---|---|---|---|")
	for _, c := range b.contenders {
		var all []string
		for _, d := range b.took[c.name] {
			all = append(all, fmt.Sprintf("%.2f", d.Seconds()))
		}
		fmt.Fprintf(&out, "| %s | %s | %.2f s | %s | %.0f %% |\n",
			c.name, c.what, median(b.took[c.name]).Seconds(), strings.Join(all, ", "), 100*median(b.busy[c.name]))
	}
	return out.String()
}

func median[T time.Duration | float64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// processors returns how much time all processors have spent, working and in all.
func processors(t *testing.T) (used, all float64) {
	t.Helper()
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	var v [8]float64 // user, nice, system, idle, iowait, irq, softirq, steal
	if _, err := fmt.Sscanf(string(stat), "cpu %f %f %f %f %f %f %f %f", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6],
		&v[7]); err != nil {
		t.Fatal(err)
	}
	for i, x := range v {
		all += x
		if i != 3 && i != 4 {
			used += x
		}
	}
	return used, all
}

// machine describes where this runs.
func machine(t *testing.T) string {
	t.Helper()
	after := func(file, key string) string {
		b, _ := os.ReadFile(file)
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, key); ok {
				return strings.Trim(rest, " \t\n:\"")
			}
		}
		return "unknown"
	}
	cores := 0
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "processor") {
			cores++
		}
	}
	var kb int64
	_, _ = fmt.Sscan(after("/proc/meminfo", "MemTotal:"), &kb)
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	goVersion, _ := exec.CommandContext(t.Context(), "go", "env", "GOVERSION").Output()
	return fmt.Sprintf("%d cores (%s), %.0f GiB of memory, %s, Linux %s, %s", cores, after("/proc/cpuinfo", "model name"),
		float64(kb)/(1<<20), after("/etc/os-release", "PRETTY_NAME="), strings.TrimSpace(string(kernel)),
		strings.TrimSpace(string(goVersion)))
}
