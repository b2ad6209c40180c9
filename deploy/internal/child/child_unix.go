//go:build unix && !linux

package child

import "syscall"

// attributes keeps the terminal's signals to this program alone. Outside Linux
// nothing ends the children when this program is killed with -9.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
