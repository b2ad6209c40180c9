// Package openb reads the openb trace, one production cluster's nodes and
// tasks, as a workload.
//
// GPU shares are rounded up to whole GPUs, since Kubernetes has no smaller unit.
package openb

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/berth-scheduler/berth/deploy/demo/internal/workload"
)

// podsPerNode is the kubelet's default limit; the trace has none.
const podsPerNode = 110

// nodesFile holds the trace's nodes.
const nodesFile = "openb_node_list_all_node.csv"

// Load reads the nodes of dir and the pods of openb_pod_list_LIST.csv there, in
// the order in which they came to the cluster.
func Load(dir, list, scheduler string) (workload.Workload, error) {
	nodes, err := load(filepath.Join(dir, nodesFile), Nodes)
	if err != nil {
		return workload.Workload{}, err
	}
	path := filepath.Join(dir, "openb_pod_list_"+list+".csv")
	pods, err := load(path, func(r io.Reader) ([]*corev1.Pod, error) { return Pods(r, scheduler) })
	if errors.Is(err, fs.ErrNotExist) {
		return workload.Workload{}, fmt.Errorf("%w: --trace-pods must name one of %s", err, strings.Join(lists(dir), ", "))
	}
	if err != nil {
		return workload.Workload{}, err
	}
	w := workload.Workload{Nodes: nodes}
	for _, p := range pods {
		w.Pods = append(w.Pods, workload.Pod{Object: p})
	}
	return w, nil
}

// load applies parse to a file and names it in parse's errors.
func load[T any](path string, parse func(io.Reader) (T, error)) (T, error) {
	f, err := os.Open(path)
	if err != nil {
		var none T
		return none, fmt.Errorf("trace: %w", err)
	}
	defer f.Close()
	parsed, err := parse(f)
	if err != nil {
		return parsed, fmt.Errorf("trace: %s: %w", path, err)
	}
	return parsed, nil
}

// lists are the names that Load takes for the files of dir.
func lists(dir string) []string {
	files, _ := filepath.Glob(filepath.Join(dir, "openb_pod_list_*.csv")) // only fails on a bad pattern
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "openb_pod_list_"), ".csv"))
	}
	if len(names) == 0 {
		return []string{"none: the folder has no openb_pod_list_NAME.csv"}
	}
	return names
}

// Nodes reads a list of nodes.
func Nodes(r io.Reader) ([]*corev1.Node, error) {
	var nodes []*corev1.Node
	err := rows(r, []string{"sn", "cpu_milli", "memory_mib", "gpu", "model"}, func(row *row) {
		capacity := workload.Capacity(row.count("cpu_milli"), row.memory("memory_mib"), row.count("gpu"), podsPerNode)
		n := workload.NewNode(row.name("sn"), "", capacity)
		if model := row.text["model"]; model != "" {
			n.Labels[workload.ModelLabel] = row.label("model", model)
		}
		nodes = append(nodes, n)
	})
	return nodes, err
}

// Pods reads a list of tasks and returns them by creation time, then name.
func Pods(r io.Reader, scheduler string) ([]*corev1.Pod, error) {
	type task struct {
		pod     *corev1.Pod
		created int64 // seconds
	}
	var tasks []task
	columns := []string{"name", "cpu_milli", "memory_mib", "num_gpu", "gpu_spec", "creation_time"}
	err := rows(r, columns, func(row *row) {
		requests := workload.Resources(row.count("cpu_milli"), row.memory("memory_mib"), row.count("num_gpu"))
		p := workload.NewPod(scheduler, row.name("name"), nil, requests)
		if spec := row.text["gpu_spec"]; spec != "" {
			var models []string
			for model := range strings.SplitSeq(spec, "|") {
				// The trace names some models twice in one row.
				if model = row.label("gpu_spec", model); !slices.Contains(models, model) {
					models = append(models, model)
				}
			}
			workload.RequireModel(p, models...)
		}
		tasks = append(tasks, task{p, row.count("creation_time")})
	})
	slices.SortStableFunc(tasks, func(a, b task) int {
		return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.pod.Name, b.pod.Name))
	})
	var pods []*corev1.Pod
	for _, t := range tasks {
		pods = append(pods, t.pod)
	}
	return pods, err
}

// rows calls add for each row after the header, which must name columns, in any
// order and among others. It ends at the first mistake, and names its line.
func rows(r io.Reader, columns []string, add func(*row)) error {
	lines := csv.NewReader(r)
	header, err := lines.Read()
	if err == io.EOF {
		return errors.New("the file is empty; its first line must name the columns")
	}
	if err != nil {
		return err
	}
	index := map[string]int{}
	for _, c := range columns {
		i := slices.Index(header, c)
		if i < 0 {
			return fmt.Errorf("line 1: no column %q among %s", c, strings.Join(header, ", "))
		}
		index[c] = i
	}
	seen := map[string]bool{} // names so far
	for {
		record, err := lines.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		row := &row{text: map[string]string{}, seen: seen}
		for _, c := range columns {
			row.text[c] = record[index[c]]
		}
		add(row)
		if row.err != nil {
			line, _ := lines.FieldPos(0)
			return fmt.Errorf("line %d: %w", line, row.err)
		}
	}
}

// A row reads typed values from one line; err is the first that was wrong.
type row struct {
	text map[string]string // by column
	seen map[string]bool   // names of all rows
	err  error
}

func (r *row) fail(column, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s %q "+format, append([]any{column, r.text[column]}, args...)...)
	}
}

// limit keeps sums of the trace's numbers within 64 bits: 10¹² thousandths of a
// cpu, or seconds. No real value comes near.
const limit = 1_000_000_000_000

func (r *row) count(column string) int64 { return r.number(column, limit) }

// memory is a number of Mi that also fits as bytes.
func (r *row) memory(column string) int64 { return r.number(column, limit>>10) }

func (r *row) number(column string, most int64) int64 {
	n, err := strconv.ParseInt(r.text[column], 10, 64)
	if err != nil || n < 0 || n > most {
		r.fail(column, "is not a whole number from 0 to %d", most)
		return 0
	}
	return n
}

// name is a name that Kubernetes takes for a node or a pod, and that no row
// before has.
func (r *row) name(column string) string {
	name := r.text[column]
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		r.fail(column, "is not a name: %s", problems[0])
	} else if r.seen[name] {
		r.fail(column, "appears twice")
	}
	r.seen[name] = true
	return name
}

// label is a label's value that Kubernetes takes and that is not empty.
func (r *row) label(column, value string) string {
	if problems := validation.IsValidLabelValue(value); len(problems) > 0 {
		r.fail(column, "is not a label: %s", problems[0])
	} else if value == "" {
		r.fail(column, "has an empty model")
	}
	return value
}
