package cluster

import (
	"os/exec"
	"syscall"
)

// DieWithParent has the kernel kill cmd when we are gone, however that was.
func DieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
