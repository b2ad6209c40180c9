package child

import (
	"fmt"
	"net"
	"os"
)

// FreeAddresses returns n different loopback addresses where nobody listens.
// Their ports lie below those that kernels hand out to clients and the local
// cluster takes, so that nobody else takes them before a child does, nor while
// one is away.
func FreeAddresses(n int) ([]string, error) {
	const low, high = 10000, 20000
	var free []string
	for i, first := 0, os.Getpid()*16; i < high-low && len(free) < n; i++ {
		address := fmt.Sprintf("127.0.0.1:%d", low+(first+i)%(high-low))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		l.Close()
		free = append(free, address)
	}
	if len(free) < n {
		return nil, fmt.Errorf("fewer than %d free ports between %d and %d on 127.0.0.1", n, low, high)
	}
	return free, nil
}
