package process

import (
	"runtime/debug"
	"strings"

	componentversion "k8s.io/component-base/version"
)

// version is what the linker was told (-X
// k8s.io/component-base/version.gitVersion=...), or else what Go knows of the
// module.
func version() string {
	stamped := componentversion.Get().GitVersion
	if !strings.Contains(stamped, "$Format") {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
