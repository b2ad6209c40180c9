//go:build unix && !linux

package main

import "syscall"

// processAttributes keeps the terminal's signals to this program alone. Outside
// Linux nothing ends the components when this program is killed with -9.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
