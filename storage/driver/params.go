package driver

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Params are the parameters that a kind's URLs may have, each with a check of its value; nil takes any. A check's
// error continues a sentence that begins with the parameter's name.
type Params map[string]func(value string) error

// CheckBool takes the words of [strconv.ParseBool].
func CheckBool(v string) error {
	if _, err := strconv.ParseBool(v); err != nil {
		return fmt.Errorf("is %q; allowed: true, false", v)
	}
	return nil
}

// IntBetween takes whole numbers.
func IntBetween(low, high int) func(string) error {
	return func(v string) error {
		if n, err := strconv.Atoi(v); err != nil || n < low || n > high {
			return fmt.Errorf("is %q; allowed: %d to %d", v, low, high)
		}
		return nil
	}
}

// OneOf takes one of some words, in upper or lower case.
func OneOf(allowed ...string) func(string) error {
	return func(v string) error {
		if slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, v) }) {
			return nil
		}
		return fmt.Errorf("is %q; allowed: %s", v, strings.Join(allowed, ", "))
	}
}

// CheckFile takes the absolute path of a file.
func CheckFile(v string) error {
	if !path.IsAbs(v) {
		return fmt.Errorf("is %q, which is not the absolute path of a file", v)
	}
	return nil
}
