// Package command is common to all commands: their surroundings, and the checks of their arguments.
package command

import (
	"io"
	"time"
)

// System is the surroundings of a command. All fields are needed.
type System struct {
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	Now    func() time.Time
}
