//go:build unix && !linux

package main

import "syscall"

// childAttributes keeps the terminal's signals to this program alone. Outside Linux
// nothing ends the children when this program is killed with -9.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
