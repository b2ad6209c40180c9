package result

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// A Store is a file of results as JSON lines, in the order in which they were
// measured. One goroutine uses it.
type Store struct {
	path    string
	results []Result
}

// Open reads the file at path, which need not exist. A last line without an end
// is of a program that was killed while it wrote; it is cut off.
func Open(path string) (*Store, error) {
	s := &Store{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	if len(whole) < len(data) {
		if err := os.Truncate(path, int64(len(whole))); err != nil {
			return nil, err
		}
	}
	in := bufio.NewScanner(bytes.NewReader(whole))
	in.Buffer(nil, len(whole)+1)
	for n := 1; in.Scan(); n++ {
		var r Result
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w; remove the file to start anew", path, n, err)
		}
		s.results = append(s.results, r)
	}
	return s, in.Err()
}

// Find returns the newest result of the same digest, workload, system, number of
// pods and round, if it counts.
func (s *Store) Find(like Result) (Result, bool) {
	var found Result
	ok := false
	for _, r := range s.results {
		if r.key() == like.key() {
			found, ok = r, r.Valid()
		}
	}
	return found, ok
}

// Took is how long the newest run of the same workload, system, nodes and pods
// took, in seconds, whatever its digest.
func (s *Store) Took(like Result) (seconds float64, known bool) {
	for _, r := range s.results {
		if r.Workload == like.Workload && r.System == like.System && r.Nodes == like.Nodes && r.Pods == like.Pods {
			seconds, known = r.Took, true
		}
	}
	return seconds, known
}

// Add appends r to the file.
func (s *Store) Add(r Result) error {
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	err = WriteJSON(f, r)
	s.results = append(s.results, r)
	return errors.Join(err, f.Close())
}

// WriteJSON writes r as one line.
func WriteJSON(w io.Writer, r Result) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// Latest returns the newest result of each key among those of the digest of the
// last one measured.
func (s *Store) Latest() []Result {
	if len(s.results) == 0 {
		return nil
	}
	digest := s.results[len(s.results)-1].Digest
	place := map[string]int{}
	var latest []Result
	for _, r := range s.results {
		if r.Digest != digest {
			continue
		}
		if i, known := place[r.key()]; known {
			latest[i] = r
			continue
		}
		place[r.key()] = len(latest)
		latest = append(latest, r)
	}
	return latest
}
