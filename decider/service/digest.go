package service

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// stateDigest returns the digest of a snapshot's records, whatever their order.
//
// Each record is encoded deterministically, with one byte for its kind before it
// (1 a node, 2 a placed pod, 3 a namespace), and hashed with SHA-256. A hash is
// read as four big-endian 64-bit numbers; the digest is their sums modulo 2^64
// over all records, one after the other in hexadecimal. Adding and removing a
// record changes it by that record's hash alone. It tells honest states apart
// and is no proof against somebody who chooses records to collide.
func stateDigest(s *berthv1.Snapshot) string {
	var d digest
	for _, n := range s.GetNodes() {
		d.add(1, n)
	}
	for _, p := range s.GetPlacedPods() {
		d.add(2, p)
	}
	for _, n := range s.GetNamespaces() {
		d.add(3, n)
	}
	return fmt.Sprintf("%016x%016x%016x%016x", d.lanes[0], d.lanes[1], d.lanes[2], d.lanes[3])
}

type digest struct {
	lanes [4]uint64
	// buffer is the encoding of the record before, reused.
	buffer []byte
}

func (d *digest) add(kind byte, record proto.Message) {
	// Encoding fails only on strings that are not UTF-8, which no decoder lets
	// in; then what was encoded so far is hashed.
	d.buffer, _ = proto.MarshalOptions{Deterministic: true}.MarshalAppend(append(d.buffer[:0], kind), record)
	sum := sha256.Sum256(d.buffer)
	for i := range d.lanes {
		d.lanes[i] += binary.BigEndian.Uint64(sum[8*i:])
	}
}
