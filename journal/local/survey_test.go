package local_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/journal/local"
	"github.com/snapshotd/snapshotd/journal/segment"
)

// three leaves three sealed parts of three revisions each, and returns the files of their entries and of their facts.
func three(t *testing.T, dir string) (logs, facts []string) {
	t.Helper()
	l := open(t, dir)
	must(t, l.Begin(segment.Header{Timeline: timeline}))
	for first := int64(1); first <= 7; first += 3 {
		add(t, l, first, first+2)
		must(t, l.Seal())
	}
	must(t, l.Close())
	return glob(t, dir, "*.log"), glob(t, dir, "*.json")
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	must(t, err)
	return files
}

// edit changes the content of a file.
func edit(t *testing.T, file string, change func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, change(content), 0o600))
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[(at+len(b))%len(b)] ^= 1
		return b
	}
}

func garbage([]byte) []byte { return []byte("garbage") }

// Bad files of one part keep nothing else from being read, and exactly what they should have is lost.
func TestABadPartIsSetAsideAndItsRevisionsAreNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, logs, facts []string)
		left  []int64
		lost  string
		again bool
		bad   int // files that are set aside
	}{
		"the facts of the second one": {
			spoil: func(t *testing.T, _, facts []string) { edit(t, facts[1], garbage) },
			left:  []int64{1, 2, 3, 7, 8, 9}, lost: "revisions 4 to 6", bad: 2,
		},
		"the facts of the first one": {
			spoil: func(t *testing.T, _, facts []string) { edit(t, facts[0], garbage) },
			left:  upTo(4, 9), lost: "revisions up to 3", bad: 2,
		},
		"the facts of the last one": {
			spoil: func(t *testing.T, _, facts []string) { edit(t, facts[2], garbage) },
			left:  upTo(1, 6), lost: "revisions 7 to 9", again: true, bad: 2,
		},
		"the facts of two": {
			spoil: func(t *testing.T, _, facts []string) {
				edit(t, facts[0], garbage)
				edit(t, facts[1], garbage)
			},
			left: upTo(7, 9), lost: "revisions up to 6", bad: 4,
		},
		"all entries": {
			spoil: func(t *testing.T, logs, _ []string) { edit(t, logs[1], garbage) },
			left:  []int64{1, 2, 3, 7, 8, 9}, lost: "revisions 4 to 6", bad: 2,
		},
		"a directory in the place of a file": {
			spoil: func(t *testing.T, logs, _ []string) {
				must(t, os.Remove(logs[1]))
				must(t, os.Mkdir(logs[1], 0o700))
			},
			left: []int64{1, 2, 3, 7, 8, 9}, lost: "revisions 4 to 6", bad: 2,
		},
		"a byte in the last entry": {
			spoil: func(t *testing.T, logs, _ []string) { edit(t, logs[1], flip(-1)) },
			left:  []int64{1, 2, 3, 4, 5, 7, 8, 9}, lost: "revision 6",
		},
		"a byte in the middle": {
			spoil: func(t *testing.T, logs, _ []string) {
				edit(t, logs[1], func(b []byte) []byte { return flip(len(b) / 2)(b) })
			},
			left: []int64{1, 2, 3, 4, 7, 8, 9}, lost: "revisions 5 to 6",
		},
		"the end is missing": {
			spoil: func(t *testing.T, logs, _ []string) {
				edit(t, logs[1], func(b []byte) []byte { return b[:len(b)-1] })
			},
			left: []int64{1, 2, 3, 4, 5, 7, 8, 9}, lost: "revision 6",
		},
		"a byte in the last part": {
			spoil: func(t *testing.T, logs, _ []string) { edit(t, logs[2], flip(-1)) },
			left:  upTo(1, 8), lost: "revision 9", again: true,
		},
		"the entries of another part": {
			spoil: func(t *testing.T, logs, _ []string) {
				first, err := os.ReadFile(logs[0])
				must(t, err)
				must(t, os.WriteFile(logs[1], first, 0o600))
			},
			left: []int64{1, 2, 3, 7, 8, 9}, lost: "revisions 4 to 6", bad: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			logs, facts := three(t, dir)
			tc.spoil(t, logs, facts)
			l := open(t, dir)
			lost := l.TakeLosses()
			if len(lost) != 1 || lost[0].Err == nil || lost[0].String() != tc.lost || lost[0].Again != tc.again || lost[0].Timeline != timeline {
				t.Errorf("it has lost %+v, want %s", lost, tc.lost)
			}
			if got := read(t, l); !slices.Equal(got, tc.left) {
				t.Errorf("there are %v, want %v", got, tc.left)
			}
			if got, want := l.Position().Revision, tc.left[len(tc.left)-1]; got != want {
				t.Errorf("it goes on behind %d, want %d", got, want)
			}
			if got := glob(t, dir, "*.bad"); len(got) != tc.bad {
				t.Errorf("set aside: %q", got)
			}
			// It goes on, takes no name of a file that was set aside, and does not lose what it had.
			from := l.Position().Revision + 1
			must(t, l.Begin(segment.Header{Timeline: timeline}))
			add(t, l, from, from+1)
			must(t, l.Close())
			if got, want := read(t, open(t, dir)), append(slices.Clone(tc.left), from, from+1); !slices.Equal(got, want) {
				t.Errorf("gone on with, there are %v, want %v", got, want)
			}
		})
	}
}

// What is left of a damaged part is uploaded, and then the file is of use to a person alone.
func TestADamagedPartIsSetAsideWhenItIsStored(t *testing.T) {
	dir := t.TempDir()
	logs, _ := three(t, dir)
	edit(t, logs[1], flip(-1))
	damaged, err := os.ReadFile(logs[1])
	must(t, err)
	l := open(t, dir)
	parts, _ := l.Sealed()
	must(t, l.Remove(parts[1].Number))
	if got, err := os.ReadFile(logs[1] + ".bad"); err != nil || string(got) != string(damaged) {
		t.Errorf("set aside: %d bytes, %v", len(got), err)
	}
	again := open(t, dir)
	if lost := again.TakeLosses(); len(lost) != 1 || !lost[0].Gone() || len(read(t, again)) != 6 {
		t.Errorf("then it has lost %+v, and has %v", lost, read(t, again))
	}
}

// A crash leaves a torn end of the part that was not sealed. That is no damage.
func TestACrashIsNoLoss(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	must(t, l.Begin(segment.Header{Timeline: timeline}))
	add(t, l, 1, 3)
	must(t, l.Seal())
	add(t, l, 4, 6)
	must(t, l.Sync())
	logs := glob(t, dir, "*.log")
	edit(t, logs[1], func(b []byte) []byte { return b[:len(b)-3] })
	for range 2 {
		l = local.New(dir, 1<<30)
		must(t, l.Open())
		if lost := l.TakeLosses(); len(lost) > 0 || !slices.Equal(read(t, l), upTo(1, 5)) {
			t.Errorf("it has lost %+v, and has %v", lost, read(t, l))
		}
	}
	if names := strings.Join(glob(t, dir, "*.bad"), " "); names != "" {
		t.Errorf("set aside: %s", names)
	}
}

// Files that are not there are removed parts, or have vanished. Their revisions are known by the parts around them, and
// by the note of the last one: whoever knows the backends finds out which it is.
func TestRevisionsWithoutAPartAreNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		remove []int // of the parts
		lost   []string
		left   []int64
	}{
		"the first one":           {remove: []int{0}, lost: []string{"revisions up to 3"}, left: upTo(4, 9)},
		"the one in the middle":   {remove: []int{1}, lost: []string{"revisions 4 to 6"}, left: []int64{1, 2, 3, 7, 8, 9}},
		"the last one":            {remove: []int{2}, lost: []string{"revisions 7 to 9"}, left: upTo(1, 6)},
		"the first and the last":  {remove: []int{0, 2}, lost: []string{"revisions up to 3", "revisions 7 to 9"}, left: upTo(4, 6)},
		"all":                     {remove: []int{0, 1, 2}, lost: []string{"revisions up to 9"}},
		"none":                    {left: upTo(1, 9)},
		"two that are neighbours": {remove: []int{1, 2}, lost: []string{"revisions 4 to 9"}, left: upTo(1, 3)},
	} {
		for what, both := range map[string]bool{"entries and facts": true, "entries": false} {
			t.Run(name+", "+what, func(t *testing.T) {
				dir := t.TempDir()
				logs, facts := three(t, dir)
				for _, i := range tc.remove {
					must(t, os.Remove(logs[i]))
					if both {
						must(t, os.Remove(facts[i]))
					}
				}
				l := open(t, dir)
				var lost []string
				for _, one := range l.TakeLosses() {
					if lost = append(lost, one.String()); !one.Gone() || one.Timeline != timeline || one.Again {
						t.Errorf("it has lost %+v", one)
					}
				}
				if got := read(t, l); !slices.Equal(lost, tc.lost) || !slices.Equal(got, tc.left) {
					t.Errorf("there are %v without %v, want %v without %v", got, lost, tc.left, tc.lost)
				}
				if at := l.Position().Revision; at != 9 {
					t.Errorf("it goes on behind revision %d", at)
				}
			})
		}
	}
}

// A part that was removed is not missed, as its revisions are where they should be, or were removed there, too. One that
// has vanished is, until it is known whether its revisions are lost, whatever is sealed meanwhile.
func TestAPartIsMissedUntilItIsResolved(t *testing.T) {
	lost := func(l *local.Log) (all []string) {
		for _, one := range l.TakeLosses() {
			all = append(all, one.String())
		}
		return all
	}
	remove := func(t *testing.T, files ...string) {
		t.Helper()
		for _, f := range files {
			must(t, os.Remove(f))
		}
	}
	t.Run("removed", func(t *testing.T) {
		dir := t.TempDir()
		three(t, dir)
		l := open(t, dir)
		parts, _ := l.Sealed()
		for i := range parts {
			must(t, l.Remove(parts[i].Number))
			if all := lost(open(t, dir)); len(all) > 0 {
				t.Errorf("without the first %d parts, it has lost %v", i+1, all)
			}
		}
		if at := open(t, dir).Position().Revision; at != 9 {
			t.Errorf("it goes on behind revision %d", at)
		}
	})
	t.Run("vanished between two processes", func(t *testing.T) {
		dir := t.TempDir()
		logs, facts := three(t, dir)
		remove(t, logs[0], facts[0], logs[2], facts[2])
		want := []string{"revisions up to 3", "revisions 7 to 9"}
		for range 2 { // the second one has sealed another part
			l := open(t, dir)
			if all := lost(l); !slices.Equal(all, want) {
				t.Errorf("it has lost %v, want %v", all, want)
			}
			at := l.Position().Revision
			must(t, l.Begin(segment.Header{Timeline: timeline}))
			add(t, l, at+1, at+2)
			must(t, l.Close())
			if parts, _ := l.Sealed(); parts[0].Header.First == 4 {
				must(t, l.Remove(parts[0].Number))
				want = []string{"revisions up to 9"}
			}
		}
		l := open(t, dir)
		must(t, l.Resolve())
		if all := lost(open(t, dir)); len(all) > 0 {
			t.Errorf("after that was resolved, it has lost %v", all)
		}
	})
	t.Run("vanished under a process", func(t *testing.T) {
		dir := t.TempDir()
		logs, facts := three(t, dir)
		l := open(t, dir)
		remove(t, logs[1], facts[1])
		parts, _ := l.Sealed()
		must(t, l.GiveUp(parts[1].Number))
		must(t, l.Remove(parts[0].Number))
		if all := lost(open(t, dir)); !slices.Equal(all, []string{"revisions up to 6"}) {
			t.Errorf("it has lost %v", all)
		}
		must(t, l.Resolve())
		if all := lost(open(t, dir)); len(all) > 0 {
			t.Errorf("after that was resolved, it has lost %v", all)
		}
	})
	t.Run("removed by a version that did not note it", func(t *testing.T) {
		dir := t.TempDir()
		logs, facts := three(t, dir)
		remove(t, append(logs, facts...)...)
		edit(t, filepath.Join(dir, "position"), func(doc []byte) []byte {
			return regexp.MustCompile(`,"oldest":"\d+"`).ReplaceAll(doc, nil)
		})
		l := open(t, dir)
		if all := lost(l); len(all) > 0 || l.Position().Revision != 9 {
			t.Errorf("it has lost %v, and goes on behind %d", all, l.Position().Revision)
		}
	})
}
