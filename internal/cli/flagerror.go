package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// flagError returns an error of a flag in the form of all problems: the flag, its value, the allowed values.
func flagError(err error) error {
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
		return "is no duration, such as 90s, 5m or 36h"
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
