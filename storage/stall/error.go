package stall

import (
	"fmt"
	"time"
)

// Error is that nothing moved.
type Error struct {
	text string
	Hint string
}

func (e *Error) Error() string { return e.text }

const (
	hintServer     = "the server or the network to it is stuck"
	hintFileSystem = "the file system hangs; check the disk, or the server that it is mounted from"
)

func tooSlow(limit time.Duration) *Error {
	return &Error{fmt.Sprintf("the answer is short and was not there after %v", limit), hintServer}
}

func nothingMoved(limit time.Duration, hint string) *Error {
	return &Error{fmt.Sprintf("nothing moved for %v", limit), hint}
}

// NoAnswer is the error of a question that was not answered within the limit.
func NoAnswer(limit time.Duration, hint string) *Error {
	return &Error{fmt.Sprintf("there was no answer within %v", limit), hint}
}
