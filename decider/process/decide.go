package process

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

const decideUsage = `%[1]s decide answers the DecideRequest on standard input, as the server would.

Usage:
  %[1]s decide [flags] < request.json

Flags:
`

// decide answers one saved request without a server.
func (p Program) decide(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	var (
		flags     = flag.NewFlagSet(p.Name+" decide", flag.ContinueOnError)
		configure = p.Flags(flags)
		explain   = flags.Bool("explain", false, "say of every node why it was rejected or how it scored; prints a table unless -o is given")
		input     = flags.String("i", "json", "input `format`: json or binary")
		preempt   = flags.Bool("preempt", false, "look for pods of lower priority to evict for pods that no node takes; not given, the request says")
		output    = flags.String("o", "", "output `format`: json, binary or table (default json, or table with --explain)")
		seed      = flags.Uint64("seed", 0, "replace the request's seed")
	)
	if done, err := parse(flags, args, fmt.Sprintf(decideUsage, p.Name), stdout); done || err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return UsageError{fmt.Errorf("unknown argument %q: the request is read from standard input", flags.Arg(0))}
	}
	config, _, err := configure(ctx)
	if err != nil {
		return err
	}
	encode, err := encoder(*output, *explain)
	if err != nil {
		return err
	}
	request, err := readRequest(stdin, *input)
	if err != nil {
		return err
	}
	if *explain {
		request.Explanation = berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES
	}
	flags.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "seed":
			request.Seed = *seed
		case "preempt":
			request.Preempt = *preempt
		}
	})
	config.Version = version()
	s, err := service.New(config)
	if err != nil {
		return UsageError{err}
	}
	response, err := s.Decide(ctx, request)
	if err != nil {
		return fmt.Errorf("%v: %s", status.Code(err), status.Convert(err).Message())
	}
	encoded, err := encode(request, response)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	_, err = stdout.Write(encoded)
	return err
}

// readRequest decodes a request. Unknown fields in JSON are refused: somebody
// mistyped one.
func readRequest(r io.Reader, format string) (*berthv1.DecideRequest, error) {
	if format != "json" && format != "binary" {
		return nil, UsageError{fmt.Errorf("-i %q is neither json nor binary", format)}
	}
	encoded, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	request := &berthv1.DecideRequest{}
	if format == "binary" {
		err = proto.Unmarshal(encoded, request)
	} else {
		err = protojson.Unmarshal(encoded, request)
	}
	if err != nil {
		return nil, fmt.Errorf("the request on standard input is no DecideRequest in %s: %w", format, err)
	}
	return request, nil
}

// encoder returns how answers are printed.
func encoder(format string, explain bool) (func(*berthv1.DecideRequest, *berthv1.DecideResponse) ([]byte, error), error) {
	if format == "" {
		format = "json"
		if explain {
			format = "table"
		}
	}
	switch format {
	case "json":
		return func(_ *berthv1.DecideRequest, response *berthv1.DecideResponse) ([]byte, error) {
			return canonicalJSON(response)
		}, nil
	case "binary":
		return func(_ *berthv1.DecideRequest, response *berthv1.DecideResponse) ([]byte, error) {
			return proto.MarshalOptions{Deterministic: true}.Marshal(response)
		}, nil
	case "table":
		return table, nil
	}
	return nil, UsageError{fmt.Errorf("-o %q is not json, binary or table", format)}
}

// canonicalJSON encodes a message in one form: two spaces of indentation, fields
// in the contract's order, maps by key. protojson itself varies its spaces from
// build to build.
func canonicalJSON(message proto.Message) ([]byte, error) {
	encoded, err := protojson.Marshal(message)
	if err != nil {
		return nil, err
	}
	var canonical bytes.Buffer
	if err := json.Indent(&canonical, encoded, "", "  "); err != nil {
		return nil, err
	}
	canonical.WriteByte('\n')
	return canonical.Bytes(), nil
}
