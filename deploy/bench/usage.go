package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// clockTicks is the unit of CPU times in /proc, which is the same on every
// architecture that Go runs on.
const clockTicks = 100

// cpuSeconds is the CPU that a process used since its start, the kernel's on its
// behalf included; 0 where there is no /proc.
func cpuSeconds(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return parseCPU(data)
}

// parseCPU reads utime and stime from the contents of /proc/PID/stat.
func parseCPU(stat []byte) (float64, error) {
	// The second field is the program's name in parentheses and may have any
	// character; the state, the third, follows the last parenthesis.
	_, rest, found := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(")"))
	fields := strings.Fields(string(rest))
	const utime, stime = 14 - 3, 15 - 3
	if !found || len(fields) <= stime {
		return 0, fmt.Errorf("stat of a process: %q has too few fields", stat)
	}
	var ticks uint64
	for _, i := range []int{utime, stime} {
		n, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat of a process, field %d: %w", i+3, err)
		}
		ticks += n
	}
	return float64(ticks) / clockTicks, nil
}

// peakBytes is the largest resident set that a process has had; 0 where there is
// no /proc.
func peakBytes(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return parsePeak(string(data))
}

// parsePeak reads VmHWM from the contents of /proc/PID/status.
func parsePeak(status string) (int64, error) {
	for line := range strings.Lines(status) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kilobytes, found := strings.CutSuffix(strings.TrimSpace(value), " kB")
			n, err := strconv.ParseInt(kilobytes, 10, 64)
			if !found || err != nil {
				return 0, fmt.Errorf("status of a process: %q is no size in kB", value)
			}
			return n << 10, nil
		}
	}
	return 0, errors.New("status of a process: it has no VmHWM")
}
