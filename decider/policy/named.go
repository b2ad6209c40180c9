package policy

import (
	"fmt"
	"slices"
	"strings"
)

// builtin are the policies that are selected by name.
var builtin = []Policy{Default(), First(), Random()}

// Named returns the policy of this package with this name.
func Named(name string) (Policy, error) {
	var names []string
	for _, p := range builtin {
		if p.Name() == name {
			return p, nil
		}
		names = append(names, p.Name())
	}
	return nil, fmt.Errorf("unknown policy %q: it is one of %s", name, strings.Join(names, ", "))
}

// IsBuiltin says whether p is a policy of this package: it reads no more of nodes than
// what rules and scores read.
func IsBuiltin(p Policy) bool { return slices.Contains(builtin, p) }
