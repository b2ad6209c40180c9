// Ownpolicy is a decider with a policy of its own, as small as one gets: it
// prefers the node whose name comes last. The end-to-end tests put it in the
// place of Berth's decider.
package main

import (
	"context"
	"log"
	"net"
	"os"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
)

type last struct{}

func (last) Name() string { return "last" }

func (last) Rank(t policy.Turn) []int64 {
	scores := make([]int64, len(t.Nodes))
	for i := range scores {
		scores[i] = int64(i) // the nodes are in name order
	}
	return scores
}

func main() {
	decider, err := service.New(service.Config{Policy: last{}})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(decider.Serve(context.Background(), listener))
}
