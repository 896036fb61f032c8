package drill

import (
	"os/exec"
	"syscall"
)

// dieWithParent ends the command when the service is killed and cannot clean up.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
