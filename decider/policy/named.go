package policy

import (
	"fmt"
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
