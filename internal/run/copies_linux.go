package run

import (
	"os/exec"
	"syscall"
)

// tie has the kernel kill cmd when we are gone, and keeps a terminal's signals
// from it, which are for us.
func tie(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
