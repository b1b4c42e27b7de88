package cluster

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill cmd when we are gone, however that was.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
