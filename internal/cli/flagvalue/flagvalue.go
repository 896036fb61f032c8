// Package flagvalue is about the values of flags: those from variables, errors that say which values a flag takes, and
// kinds of values that people write in more than one way.
package flagvalue

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/internal/bytesize"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/duration"
)

// FromEnvironment sets the flags that were not given from their SNAPSHOTD_* variables. An empty one counts as not set.
func FromEnvironment(fs *pflag.FlagSet, getenv func(string) string, names ...string) error {
	for _, name := range names {
		variable := "SNAPSHOTD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		value := getenv(variable)
		if value == "" || fs.Changed(name) {
			continue
		}
		if err := fs.Set(name, value); err != nil {
			return exit.Usagef("%s: %q %s", variable, value, wrongValue(fs.Lookup(name), err))
		}
	}
	return nil
}

// Error returns an error of a flag in the form of all problems: the flag, its value, the allowed values.
func Error(err error) error {
	wrong, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	return fmt.Errorf("--%s: %q %s", wrong.GetFlag().Name, wrong.GetValue(), wrongValue(wrong.GetFlag(), err))
}

// wrongValue says which values a flag takes, in other words than the library's, which are Go's.
func wrongValue(f *pflag.Flag, err error) string {
	switch f.Value.Type() {
	case "duration":
		return "is no duration; write it as " + duration.Forms
	case "bytes":
		return "is no number of bytes; write it as 20GiB, 500MB or 10737418240"
	case "bool":
		return "is neither true nor false"
	case "int", "int64", "uint64":
		return "is no whole number"
	}
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		err = wrong.Unwrap()
	}
	return strings.TrimPrefix(err.Error(), "it ")
}

// Labels reads key=value pairs.
func Labels(pairs []string) (map[string]string, error) {
	m := make(map[string]string, len(pairs))
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, exit.Usagef("--label: %q is not key=value", p)
		}
		if old, twice := m[k]; twice && old != v {
			return nil, exit.Usagef("--label: %q is given as %q and as %q", k, old, v)
		}
		m[k] = v
	}
	return m, nil
}

// Time reads a time, a day, or an age such as 36h or 7d.
func Time(flag, s string, now time.Time) (*timestamppb.Timestamp, error) {
	if s == "" {
		return nil, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return timestamppb.New(t), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		return timestamppb.New(t), nil
	}
	if d, err := duration.Parse(s); err == nil && d >= 0 {
		return timestamppb.New(now.Add(-d)), nil
	}
	return nil, exit.Usagef("%s: %q is no time; write it as 2026-07-15T12:00:00Z, 2026-07-15, or as an age, 36h or 7d",
		flag, s)
}

type durationValue time.Duration

// Duration defines a flag with a duration, which may have days. Its default is what to holds.
func Duration(fs *pflag.FlagSet, to *time.Duration, name, usage string) {
	fs.Var((*durationValue)(to), name, usage)
}

func (v *durationValue) Set(s string) error {
	d, err := duration.Parse(s)
	*v = durationValue(d)
	return err
}

func (v *durationValue) String() string {
	if *v == 0 {
		return "0" // the help shows no default that is 0
	}
	return time.Duration(*v).String()
}

func (v *durationValue) Type() string { return "duration" }

type bytesValue uint64

// Bytes defines a flag with a number of bytes, which may have a unit. Its default is 0.
func Bytes(fs *pflag.FlagSet, to *uint64, name, usage string) { fs.Var((*bytesValue)(to), name, usage) }

func (v *bytesValue) Set(s string) error {
	n, err := bytesize.Parse(s)
	*v = bytesValue(n)
	return err
}

func (v *bytesValue) String() string { return strconv.FormatUint(uint64(*v), 10) }
func (v *bytesValue) Type() string   { return "bytes" }
