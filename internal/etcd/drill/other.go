//go:build !linux

package drill

import "os/exec"

// dieWithParent does nothing on this system; the command ends when its work is done.
func dieWithParent(*exec.Cmd) {}

// neverSync does nothing on this system; the drill is slower.
func neverSync() {}
