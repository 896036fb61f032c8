package config

import (
	"strings"

	"github.com/spf13/pflag"
)

// Flags are the settings on a command line.
type Flags struct {
	file   string
	values []*flagValue // as in settings
}

// AddFlags defines a flag for each setting, and --config.
func AddFlags(fs *pflag.FlagSet) *Flags {
	f := &Flags{}
	fs.StringVar(&f.file, "config", "", "`file` with the configuration, YAML")
	for _, s := range settings {
		v := &flagValue{setting: s}
		flag := fs.VarPF(v, s.flag, "", s.usage)
		if s.kind == "bool" {
			flag.NoOptDefVal = "true"
		}
		f.values = append(f.values, v)
	}
	return f
}

// flagValue keeps the text of a flag; it is parsed together with the rest, so that all problems are reported at once.
type flagValue struct {
	setting
	values []string
}

// Set implements [pflag.Value].
func (v *flagValue) Set(s string) error {
	if !v.many {
		v.values = nil
	}
	v.values = append(v.values, s)
	return nil
}

// String implements [pflag.Value]. Only the help calls it, so a password is not shown.
func (v *flagValue) String() string { return v.def }

// Type implements [pflag.Value].
func (v *flagValue) Type() string { return v.kind }

// given are the settings of one level: the command line, or the environment.
type given struct {
	values map[string][]string // by flag
	name   func(setting) string
}

func (f *Flags) given() given {
	g := given{values: map[string][]string{}, name: func(s setting) string { return "--" + s.flag }}
	for _, v := range f.values {
		if len(v.values) > 0 {
			g.values[v.flag] = v.values
		}
	}
	return g
}

// environment reads the variables. An empty one counts as not set.
func environment(getenv func(string) string) given {
	g := given{values: map[string][]string{}, name: setting.env}
	for _, s := range settings {
		v := strings.TrimSpace(getenv(s.env()))
		switch {
		case v == "":
		case s.flag == "backend":
			g.values[s.flag] = split([]string{v}, ",\t\n")
		default:
			g.values[s.flag] = []string{v}
		}
	}
	return g
}
