package service

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers gRPC's own codec
	"google.golang.org/grpc/mem"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// codec is gRPC's for protobuf, except that requests are decoded by kind. It may be used
// concurrently.
type codec struct {
	encoding.CodecV2
	pods   *kinds[podKind]
	placed *kinds[placedKind]
}

func newCodec() *codec {
	return &codec{encoding.GetCodecV2("proto"), newKinds[podKind](), newKinds[placedKind]()}
}

// Unmarshal implements encoding.CodecV2.
func (c *codec) Unmarshal(data mem.BufferSlice, v any) error {
	var decode func(encoded []byte) error
	d := &decoder{codec: c}
	switch v := v.(type) {
	case *decideRequest:
		decode = func(encoded []byte) error { return d.decide(encoded, v) }
	case *syncRequest:
		decode = func(encoded []byte) error { return d.sync(encoded, v) }
	default:
		return c.CodecV2.Unmarshal(data, v)
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	return decode(buffer.ReadOnlyData())
}

// description is the service as it is generated, except that what the codec has decoded
// keeps the kinds of its pods.
func description() *grpc.ServiceDesc {
	desc := berthv1.DeciderService_ServiceDesc
	desc.Methods = slices.Clone(desc.Methods)
	for i := range desc.Methods {
		if desc.Methods[i].MethodName == "Decide" {
			desc.Methods[i].Handler = decideHandler
		}
	}
	desc.Streams = slices.Clone(desc.Streams)
	for i := range desc.Streams {
		if desc.Streams[i].StreamName == "Sync" {
			desc.Streams[i].Handler = syncHandler
		}
	}
	return &desc
}

// syncHandler is a grpc.StreamHandler.
func syncHandler(server any, stream grpc.ServerStream) error {
	return server.(*Service).sync(&grpc.GenericServerStream[berthv1.SyncRequest, berthv1.SyncResponse]{ServerStream: stream}, func() (*syncRequest, error) {
		m := &syncRequest{SyncRequest: &berthv1.SyncRequest{}}
		return m, stream.RecvMsg(m)
	})
}

// decideHandler is a grpc.MethodHandler.
func decideHandler(server any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
	r := &decideRequest{DecideRequest: &berthv1.DecideRequest{}}
	if err := decode(r); err != nil {
		return nil, err
	}
	info := &grpc.UnaryServerInfo{Server: server, FullMethod: berthv1.DeciderService_Decide_FullMethodName}
	return interceptor(ctx, r.DecideRequest, info, func(ctx context.Context, _ any) (any, error) {
		return server.(*Service).decideRequest(ctx, r)
	})
}
