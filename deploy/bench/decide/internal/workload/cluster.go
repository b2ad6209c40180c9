// Package workload makes up the clusters and pods that deciders are measured on, as
// records in their encoded form. The same arguments give the same bytes.
package workload

import (
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

const (
	zoneLabel     = "topology.kubernetes.io/zone"
	hostnameLabel = "kubernetes.io/hostname"
	typeLabel     = "node.kubernetes.io/instance-type"
	poolTaint     = "dedicated"
	poolLabel     = "pool"
	poolName      = "batch"
	spotTaint     = "spot"
)

// Zones is how many zones a cluster has.
const Zones = 20

// machines are the types of machine, which nodes are in equal shares.
var machines = []struct {
	name               string
	cpuMilli, gigabyte int64
}{
	{"general-16", 16000, 64},
	{"compute-32", 32000, 64},
	{"memory-16", 16000, 128},
	{"general-64", 64000, 256},
}

// Cluster is a made-up cluster: one node in twenty carries a NoSchedule taint for a
// pool of its own, one in twenty a PreferNoSchedule taint, one in a thousand is
// cordoned. Nodes are numbered in the order of their names.
type Cluster struct {
	// Nodes is how many nodes it has, at most ten million.
	Nodes int
	// Full is how much of each node's cpu and memory one pod on it takes, from 0 to 1,
	// give or take 5 % of the node. 0 means that there are no such pods.
	Full float64

	shapes map[shape][]byte // what nodes of a shape have in common, encoded
}

// shape is what nodes have in common.
type shape struct {
	machine, zone int
	kind          nodeKind
}

type nodeKind int

const (
	ordinary nodeKind = iota
	pooled
	spot
	cordoned
)

func (c *Cluster) shapeOf(i int) shape {
	random := mix(uint64(i))
	s := shape{machine: int(random % uint64(len(machines))), zone: i % Zones}
	switch share := random >> 32 % 1000; {
	case share < 50:
		s.kind = pooled
	case share < 100:
		s.kind = spot
	case share == 100:
		s.kind = cordoned
	}
	return s
}

// AppendNode appends the record of node i.
func (c *Cluster) AppendNode(b []byte, i int) []byte {
	s := c.shapeOf(i)
	common, ok := c.shapes[s]
	if !ok {
		common = encode(s.node())
		if c.shapes == nil {
			c.shapes = map[shape][]byte{}
		}
		c.shapes[s] = common
	}
	name := appendNodeName(nil, i)
	b = appendString(b, 1, name)
	b = appendString(b, 2, appendUID(nil, '0', i))
	entry := appendString(nil, 1, []byte(hostnameLabel))
	b = appendString(b, 3, appendString(entry, 2, name))
	return append(b, common...)
}

// node is a node of this shape, without its name, uid and hostname.
func (s shape) node() *berthv1.Node {
	m := machines[s.machine]
	n := &berthv1.Node{
		Labels: map[string]string{
			"kubernetes.io/arch":            "amd64",
			"kubernetes.io/os":              "linux",
			typeLabel:                       m.name,
			"topology.kubernetes.io/region": "region-1",
			zoneLabel:                       zoneName(s.zone),
		},
		Allocatable: map[string]int64{"cpu": m.cpuMilli, "memory": m.gigabyte << 30, "ephemeral-storage": 1 << 40, "pods": 110},
	}
	switch s.kind {
	case pooled:
		n.Labels[poolLabel] = poolName
		n.Taints = []*berthv1.Taint{{Key: poolTaint, Value: poolName, Effect: berthv1.TaintEffect_TAINT_EFFECT_NO_SCHEDULE}}
		n.Constraints = []string{berthv1.ConstraintTaintToleration}
	case spot:
		n.Taints = []*berthv1.Taint{{Key: spotTaint, Effect: berthv1.TaintEffect_TAINT_EFFECT_PREFER_NO_SCHEDULE}}
	case cordoned:
		n.Unschedulable = true
		n.Constraints = []string{berthv1.ConstraintNodeUnschedulable}
	}
	return n
}

// AppendFiller appends the record of the pod that fills node i up to c.Full.
func (c *Cluster) AppendFiller(b []byte, i int) []byte {
	m := machines[c.shapeOf(i).machine]
	full := c.Full + (float64(mix(^uint64(i))%1001)/1000-0.5)/10
	full = max(0, min(1, full))
	cpu, memory := int64(full*float64(m.cpuMilli)), int64(full*float64(m.gigabyte<<30))
	b = appendString(b, 1, appendUID(nil, 'f', i))
	b = appendString(b, 2, []byte("filler"))
	b = appendString(b, 3, strconv.AppendInt([]byte("filler-"), int64(i), 10))
	b = appendString(b, 4, appendNodeName(nil, i))
	entry := appendString(nil, 1, []byte("app"))
	entry = appendString(entry, 2, strconv.AppendInt([]byte("filler-"), int64(i%50), 10))
	b = appendString(b, 5, entry)
	for _, field := range []protowire.Number{6, 7} {
		b = appendAmount(b, field, "cpu", cpu)
		b = appendAmount(b, field, "memory", memory)
	}
	return b
}

const nodePrefix, nodeDigits = "node-", 7

// NodeName is the name of node i.
func NodeName(i int) string { return string(appendNodeName(nil, i)) }

// NodeIndex is the number of the node of this name; ok is false if none has it.
func (c *Cluster) NodeIndex(name []byte) (i int, ok bool) {
	if len(name) != len(nodePrefix)+nodeDigits || string(name[:len(nodePrefix)]) != nodePrefix {
		return 0, false
	}
	for _, digit := range name[len(nodePrefix):] {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		i = 10*i + int(digit-'0')
	}
	return i, i < c.Nodes
}

func appendNodeName(b []byte, i int) []byte {
	return appendDigits(append(b, nodePrefix...), i, nodeDigits)
}

// appendUID appends a uid whose first character says what it is of.
func appendUID(b []byte, kind byte, i int) []byte {
	b = append(append(b, kind), "0000000-0000-4000-8000-"...)
	return appendDigits(b, i, 12)
}

func appendDigits(b []byte, i, digits int) []byte {
	start := len(b)
	for range digits {
		b = append(b, '0')
	}
	for at := len(b) - 1; at >= start && i > 0; at, i = at-1, i/10 {
		b[at] += byte(i % 10)
	}
	return b
}

func zoneName(zone int) string { return string(appendDigits([]byte("zone-"), zone, 2)) }

func appendString(b []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
}

// appendAmount appends an entry of a map from names to amounts.
func appendAmount(b []byte, field protowire.Number, name string, amount int64) []byte {
	entry := appendString(nil, 1, []byte(name))
	entry = protowire.AppendVarint(protowire.AppendTag(entry, 2, protowire.VarintType), uint64(amount))
	return appendString(b, field, entry)
}

// encode encodes a record in one form.
func encode(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err) // only strings that are not UTF-8 cannot be encoded
	}
	return b
}

// mix spreads a number over 64 bits (splitmix64).
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
