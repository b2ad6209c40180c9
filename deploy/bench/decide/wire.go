package main

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// frames is a gRPC codec for messages that are encoded already: what is measured shares
// the machine with who measures.
type frames struct{}

func (frames) Name() string { return "proto" }

func (frames) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (frames) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// appendBytes appends a field that holds text or an encoded message.
func appendBytes(b []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
}

// appendUint appends a number, unless it is 0.
func appendUint(b []byte, field protowire.Number, value uint64) []byte {
	if value == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), value)
}

// answer is what the feeder reads of a decision.
type answer struct {
	outcome berthv1.Outcome
	node    []byte // the first candidate's name, if it was placed
	raw     []byte // the encoded Decision
}

var errMalformed = errors.New("the answer is not encoded as protobuf")

// readAnswers reads the decisions of an encoded DecideResponse into answers, which must
// be as many, and returns the state's digest.
func readAnswers(response []byte, answers []answer) (digest string, _ error) {
	next := 0
	err := eachField(response, func(field protowire.Number, value []byte, _ uint64) error {
		switch field {
		case 3:
			digest = string(value)
		case 5:
			if next == len(answers) {
				return fmt.Errorf("more than the %d decisions that were asked for", len(answers))
			}
			a, err := readAnswer(value)
			answers[next] = a
			next++
			return err
		}
		return nil
	})
	if err == nil && next < len(answers) {
		err = fmt.Errorf("%d decisions for %d pods", next, len(answers))
	}
	return digest, err
}

func readAnswer(decision []byte) (answer, error) {
	a := answer{raw: decision}
	err := eachField(decision, func(field protowire.Number, value []byte, number uint64) error {
		switch {
		case field == 2:
			a.outcome = berthv1.Outcome(number)
		case field == 3 && a.node == nil:
			return eachField(value, func(field protowire.Number, value []byte, _ uint64) error {
				if field == 1 {
					a.node = value
				}
				return nil
			})
		}
		return nil
	})
	return a, err
}

// eachField calls f for each field of an encoded message, with its bytes or its number.
func eachField(message []byte, f func(field protowire.Number, value []byte, number uint64) error) error {
	for len(message) > 0 {
		field, wire, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errMalformed
		}
		message = message[n:]
		var value []byte
		var number uint64
		switch wire {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(message)
		default:
			n = protowire.ConsumeFieldValue(field, wire, message)
		}
		if n < 0 {
			return errMalformed
		}
		message = message[n:]
		if err := f(field, value, number); err != nil {
			return err
		}
	}
	return nil
}
