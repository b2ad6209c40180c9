package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-scheduler/berth/deploy/demo/internal/workload"
)

// printHints prints commands to copy for those who want to look around.
func (d *demo) printHints() {
	kubeconfig := here(d.cluster.kubeconfig)
	request := here(filepath.Join(d.dir, "request.json"))
	kubectl := shell(d.program("kubectl"), "--kubeconfig", kubeconfig, "--namespace", namespace)
	decider := d.deciders[0]
	grpcurl := shell(d.program("grpcurl"), "-plaintext")
	describe := "berth.v1.DeciderService/Describe"
	decide := "berth.v1.DeciderService/Decide"

	p := func(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }
	p("\nEverything stays up until Ctrl-C. In another terminal, in this folder:\n")
	p("# What the cluster says")
	p("%s get pods --output wide", kubectl)
	if pod := d.refusedPod(); pod != "" {
		p("%s describe pod %s", kubectl, pod)
	}
	if decider.child != nil {
		p("\n# Ask a decider who it is and what it understands")
		p("%s %s %s", grpcurl, decider.address, describe)
		p("\n# Save the cluster and its pending pods as one question; answer it here, node by node, and ask a running decider")
		p("%s > %s", shell(d.program("watcher"), "snapshot", "--kubeconfig", kubeconfig, "--scheduler-name", d.scheduler), shell(request))
		p("%s < %s", shell(d.program("decider"), "decide", "--explain"), shell(request))
		p("%s -max-msg-sz 67108864 -d @ %s %s < %s", grpcurl, decider.address, decide, shell(request))
		p("\n# Stop a decider: the others answer, and with none pods wait. Start it again at its address")
		p("kill %d", decider.child.PID)
	} else {
		p("\n# Start a decider: the pods that wait are placed")
	}
	p("%s", shell(d.program("decider"), "--listen", decider.address))
	p("\n# Have the run judged once more, pods of your own in namespace %s with schedulerName %s included", namespace, d.scheduler)
	p("%s", shell(append([]string{d.program("check")}, d.checkArgs()...)...))
	p("\n# Logs")
	logs := []string{here(filepath.Join(d.dir, "*.log"))}
	if d.local {
		logs = append(logs, here(filepath.Join(d.dir, "cluster", "*.log")))
	}
	p("ls %s\n", strings.Join(logs, " "))
}

// refusedPod is the name of a pod that cannot fit, empty if nobody knows one.
func (d *demo) refusedPod() string {
	for _, p := range d.workload.Pods {
		if p.Want.Fit == workload.CannotFit {
			return p.Object.Name
		}
	}
	return ""
}

// program is the path of one of the programs as a person would type it.
func (d *demo) program(name string) string { return here(filepath.Join(d.bin, name)) }

// here is path as seen from the working folder if it lies there, else absolute.
func here(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	wd, err := os.Getwd()
	if err != nil {
		return abs
	}
	if rel, err := filepath.Rel(wd, abs); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return abs
}

// shell writes a command as a POSIX shell reads it.
func shell(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		plain := func(r rune) bool {
			return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@,+", r)
		}
		if w == "" || strings.TrimFunc(w, plain) != "" {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
