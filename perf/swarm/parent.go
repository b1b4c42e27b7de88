//go:build linux

package main

import "syscall"

// dieWithUs has the kernel end a process when we are gone, however that was.
func dieWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
