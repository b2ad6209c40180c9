package main

import "syscall"

// childAttributes lets the kernel kill a child when this program ends in whatever way,
// and keeps the terminal's signals to this program alone.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
