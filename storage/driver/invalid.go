package driver

import "fmt"

// InvalidError is that the caller asked for something that no backend can do, such as a key that cannot be one.
type InvalidError struct{ text string }

func (e *InvalidError) Error() string { return e.text }

// Invalid returns an [InvalidError].
func Invalid(format string, args ...any) error { return &InvalidError{fmt.Sprintf(format, args...)} }
