package main

import "syscall"

// processAttributes lets the kernel kill the component when this program ends
// in whatever way, and keeps the terminal's signals to this program alone.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
