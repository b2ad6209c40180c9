package main

import (
	"runtime/debug"
	"strings"

	"k8s.io/component-base/version"
)

// buildVersion is what the linker was told (-X
// k8s.io/component-base/version.gitVersion=...), or else what Go knows of the
// module.
func buildVersion() string {
	stamped := version.Get().GitVersion
	if !strings.Contains(stamped, "$Format") {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
