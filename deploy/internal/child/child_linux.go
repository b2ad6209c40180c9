package child

import "syscall"

// attributes lets the kernel kill a child when this program ends in whatever
// way, and keeps the terminal's signals to this program alone.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
