package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// A history is what a decider decided in a run, as a file of JSON lines: the Run, then
// one line per batch.
type history struct {
	file *os.File
	w    *bufio.Writer
}

// A decidedBatch is a line of it.
type decidedBatch struct {
	Batch int `json:"batch"`
	// Nodes are the number of each pod's node in four bytes, the lowest first; all bits
	// are set for a pod that has none.
	Nodes []byte `json:"nodes"`
	// StateDigest is that of the state that was decided on.
	StateDigest string `json:"stateDigest"`
	// Decisions are those of the sampled pods, encoded.
	Decisions [][]byte `json:"decisions"`
}

func createHistory(path string, r Run) (*history, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	h := &history{file: file, w: bufio.NewWriterSize(file, 1<<16)}
	// What was compared with an earlier history means nothing now.
	if err := os.Remove(comparedPath(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, file.Close())
	}
	return h, json.NewEncoder(h.w).Encode(r)
}

// append adds a batch.
func (h *history) append(batch int, nodes []int32, digest string, sampled []answer) error {
	line := decidedBatch{Batch: batch, Nodes: make([]byte, 0, 4*len(nodes)), StateDigest: digest}
	for _, node := range nodes {
		line.Nodes = binary.LittleEndian.AppendUint32(line.Nodes, uint32(node))
	}
	for i := range sampled {
		line.Decisions = append(line.Decisions, sampled[i].raw)
	}
	return json.NewEncoder(h.w).Encode(line)
}

// close may be called again.
func (h *history) close() error {
	if h.file == nil {
		return nil
	}
	err := errors.Join(h.w.Flush(), h.file.Close())
	h.file = nil
	return err
}

// nodes are those of the batch's pods.
func (b *decidedBatch) nodes() []int32 {
	nodes := make([]int32, len(b.Nodes)/4)
	for i := range nodes {
		nodes[i] = int32(binary.LittleEndian.Uint32(b.Nodes[4*i:]))
	}
	return nodes
}

// readHistory reads a run and its batches, which must be all there.
func readHistory(path string) (Run, []*decidedBatch, error) {
	var r Run
	file, err := os.Open(path)
	if err != nil {
		return r, nil, err
	}
	defer file.Close()
	lines := json.NewDecoder(bufio.NewReader(file))
	if err := lines.Decode(&r); err != nil {
		return r, nil, fmt.Errorf("%s: %w", path, err)
	}
	var batches []*decidedBatch
	for {
		b := &decidedBatch{}
		if err := lines.Decode(b); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return r, nil, fmt.Errorf("%s: batch %d: %w", path, len(batches), err)
		}
		batches = append(batches, b)
	}
	if r.Batch < 1 || len(batches) != r.batches() {
		return r, nil, fmt.Errorf("%s: %d batches of %d: the run did not end; run million again", path, len(batches), r.batches())
	}
	return r, batches, nil
}

// A comparedBatch is a line of the file beside a history that says what was compared.
type comparedBatch struct {
	Batch int `json:"batch"`
	Pods  int `json:"pods"`
	// Nanoseconds are what the other decider took for them.
	Nanoseconds int64 `json:"nanoseconds"`
	// Difference is the first one; empty if all are equal.
	Difference string `json:"difference,omitempty"`
}

func comparedPath(history string) string { return history + ".compared" }

// readCompared returns what was compared so far; none if the file is not there. A last
// line that was cut off counts as not compared.
func readCompared(path string) (map[int]comparedBatch, error) {
	compared := map[int]comparedBatch{}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return compared, nil
	} else if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := json.NewDecoder(file)
	for {
		var c comparedBatch
		if err := lines.Decode(&c); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return compared, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		compared[c.Batch] = c
	}
}

// appendCompared notes a batch for the next start.
func appendCompared(path string, c comparedBatch) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	line, err := json.Marshal(c)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}
