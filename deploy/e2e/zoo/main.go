// Zoo is deciders that misbehave, for the end-to-end tests: what a watcher must be able
// to live with.
//
// Reading order: this file, then a file for each kind.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// kinds are the deciders there are, and how each is served until ctx ends.
var kinds = map[string]func(context.Context, net.Listener, options) error{
	"random": serveRandom,
	"late":   serveLate,
	"crash":  serveCrash,
	"older":  serveOlder,
	"newer":  serveNewer,
}

type options struct {
	kind, listen, record string
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:0", "address to serve gRPC on")
	flag.StringVar(&o.record, "record", "", "random: file that each answer is written to, a JSON line each")
	flag.StringVar(&o.kind, "kind", "", `what is wrong with it:
random  places every pod on any node, whatever the rules
late    answers as random does, after the request's deadline
crash   exits at every tenth request to decide
older   understands few constraints, takes no Sync, names one candidate
newer   says more than this version of the contract has: fields, outcomes, constraints`)
	flag.Parse()
	serve := kinds[o.kind]
	if serve == nil {
		log.Fatalf("zoo: no kind %q", o.kind)
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		log.Fatal("zoo: ", err)
	}
	fmt.Printf("Serving decisions address=%q\n", listener.Addr())
	log.Fatal("zoo: ", serve(context.Background(), listener, o)) // it ends with the process
}

// good is a decider with nothing wrong.
func good() (*service.Service, error) { return service.New(service.Config{Policy: policy.Default()}) }

// serve serves an implementation of the contract of its own.
func serve(listener net.Listener, s berthv1.DeciderServiceServer) error {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.MaxSendMsgSize(64<<20))
	berthv1.RegisterDeciderServiceServer(server, s)
	return server.Serve(listener)
}
