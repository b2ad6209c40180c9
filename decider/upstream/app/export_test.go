package app

import "flag"

// Flags visits all flags.
func Flags(visit func(*flag.Flag)) {
	serveFlags(&serveOptions{}).VisitAll(visit)
	decideFlags(&decideOptions{}).VisitAll(visit)
}
