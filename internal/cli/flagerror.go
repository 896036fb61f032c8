package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// flagError says what is wrong with a flag as all other problems are told: the flag, its value, what is taken.
func flagError(err error) error {
	wrong, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	return fmt.Errorf("--%s: %q %s", wrong.GetFlag().Name, wrong.GetValue(), wrongValue(wrong.GetFlag(), err))
}

// wrongValue says what a flag takes, where the library would tell how Go reads it.
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
