//go:build !linux

package drill

import "os/exec"

// dieWithParent can do nothing on this system; the command ends when it has done its work.
func dieWithParent(*exec.Cmd) {}

// neverSync can do nothing on this system; the drill is slower.
func neverSync() {}
