// Command sbom reads a bill of materials (CycloneDX, as cyclonedx-gomod writes it), checks the licence of each module
// against those that are allowed, and writes a list of them with their texts, as the licences demand.
//
//	sbom BILL.json LICENCES.txt
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// allowed are the licences that a program under Apache-2.0 can be shipped with.
var allowed = []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0"}

// known are the licences of modules that the other tool takes for another one, or does not find; each was read. All
// have the text of Go's own, three clauses with "Neither the name of".
var known = map[string]string{
	"filippo.io/hpke":      "BSD-3-Clause",
	"golang.org/x/crypto":  "BSD-3-Clause",
	"golang.org/x/net":     "BSD-3-Clause",
	"golang.org/x/oauth2":  "BSD-3-Clause",
	"golang.org/x/sys":     "BSD-3-Clause",
	"golang.org/x/text":    "BSD-3-Clause",
	"golang.org/x/time":    "BSD-3-Clause",
	"golang.org/x/xerrors": "BSD-3-Clause",
	"std":                  "BSD-3-Clause",
}

// bill is the part of a bill of materials that is used.
type bill struct {
	Components []component `json:"components"`
}

type component struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Licenses []struct {
		License struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"license"`
	} `json:"licenses"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("the bill of materials and the list to be written are needed, and not %q", args)
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var b bill
	if err := json.Unmarshal(text, &b); err != nil {
		return fmt.Errorf("read %s: %w", args[0], err)
	}
	if len(b.Components) == 0 {
		return fmt.Errorf("%s has no modules in it", args[0])
	}
	slices.SortFunc(b.Components, func(a, b component) int { return strings.Compare(a.Name, b.Name) })
	if wrong := check(b.Components); len(wrong) > 0 {
		return fmt.Errorf("licences that are not allowed, or not known (tools/sbom/main.go has those that are):\n%s",
			strings.Join(wrong, "\n"))
	}
	dirs, err := directories()
	if err != nil {
		return err
	}
	list, err := write(b.Components, dirs)
	if err != nil {
		return err
	}
	fmt.Printf("%d modules, each with a licence that is allowed\n", len(b.Components))
	return os.WriteFile(args[1], list, 0o644) //nolint:gosec // it is shipped
}

// licence returns the licences of a module; empty when they are not known.
func licence(c component) []string {
	if id, ok := known[c.Name]; ok {
		return []string{id}
	}
	var all []string
	for _, l := range c.Licenses {
		all = append(all, l.License.ID+l.License.Name) // one of the two
	}
	return all
}

// check returns what is wrong.
func check(all []component) (wrong []string) {
	for _, c := range all {
		ids := licence(c)
		bad := slices.ContainsFunc(ids, func(id string) bool { return !slices.Contains(allowed, id) })
		if bad || len(ids) == 0 {
			wrong = append(wrong, fmt.Sprintf("%s %s: %q", c.Name, c.Version, ids))
		}
	}
	return wrong
}

// directories returns where the modules are, by their names.
func directories() (map[string]string, error) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Path}}\t{{.Dir}}", "all")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the modules: %w", err)
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("find Go: %w", err)
	}
	dirs := map[string]string{"std": strings.TrimSpace(string(root))}
	for line := range strings.Lines(string(out)) {
		name, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		dirs[name] = dir
	}
	return dirs, nil
}

// texts are the files with the text of a licence, and of notices that must be passed on.
var texts = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// write returns the list: a line for each module, and then the texts, each once.
func write(all []component, dirs map[string]string) ([]byte, error) {
	var list, bodies bytes.Buffer
	list.WriteString("The modules in this program, and their licences. The texts follow.\n\n")
	for _, c := range all {
		fmt.Fprintf(&list, "%-70s %-40s %s\n", c.Name, c.Version, strings.Join(licence(c), ", "))
		entries, err := os.ReadDir(dirs[c.Name])
		if err != nil {
			return nil, fmt.Errorf("find the licence of %s: %w", c.Name, err)
		}
		found := false
		for _, e := range entries {
			if e.IsDir() || !texts.MatchString(e.Name()) || filepath.Ext(e.Name()) == ".go" {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dirs[c.Name], e.Name()))
			if err != nil {
				return nil, err
			}
			found = true
			fmt.Fprintf(&bodies, "\n%s\n%s %s: %s\n\n%s\n", strings.Repeat("=", 100), c.Name, c.Version, e.Name(), text)
		}
		if !found {
			return nil, fmt.Errorf("%s %s has no file with its licence in %s", c.Name, c.Version, dirs[c.Name])
		}
	}
	return append(list.Bytes(), bodies.Bytes()...), nil
}
