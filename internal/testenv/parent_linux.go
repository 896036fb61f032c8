package testenv

import (
	"os/exec"
	"syscall"
)

// dieWithParent ends the command when the test's process is killed and cannot clean up.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
