// Upstream is a decider whose answers are kube-scheduler's own: its plugins, of the
// release that go.mod names, behind Berth's contract.
//
// Reading order: app (configuration, plugins), batch (one pod after another), convert (the
// contract's messages as Kubernetes objects), oracle (kube-scheduler's scheduling
// cycle). docs/upstream.md says what it is for. A main of your own with plugins of
// your own is as short as this one, see app.WithPlugin.
package main

import "github.com/berth-scheduler/berth/decider/upstream/app"

func main() { app.Main() }
