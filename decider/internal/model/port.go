package model

import (
	"fmt"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Port is a port of a node's own addresses.
type Port struct {
	// Protocol is "TCP", "UDP" or "SCTP".
	Protocol string
	// IP is the address, anyIP for every one.
	IP string
	// Number is 1 to 65535.
	Number int32
}

// anyIP is every address of a node.
const anyIP = "0.0.0.0"

// Conflicts says whether two pods cannot have p and q on one node.
func (p Port) Conflicts(q Port) bool {
	return p.Number == q.Number && p.Protocol == q.Protocol && (p.IP == q.IP || p.IP == anyIP || q.IP == anyIP)
}

func newPorts(records []*berthv1.HostPort) ([]Port, *FieldError) {
	var ports []Port
	for i, record := range records {
		port := Port{Protocol: record.GetProtocol(), IP: record.GetIp(), Number: record.GetPort()}
		if port.Protocol == "" {
			port.Protocol = "TCP"
		}
		if port.IP == "" {
			port.IP = anyIP
		}
		switch port.Protocol {
		case "TCP", "UDP", "SCTP":
		default:
			return nil, fieldError(fmt.Sprintf("host_ports[%d].protocol", i), "%q is not TCP, UDP or SCTP", port.Protocol)
		}
		if port.Number < 1 || port.Number > 65535 {
			return nil, fieldError(fmt.Sprintf("host_ports[%d].port", i), "%d is not 1 to 65535", port.Number)
		}
		ports = append(ports, port)
	}
	return ports, nil
}
