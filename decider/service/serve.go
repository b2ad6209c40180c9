package service

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Ready says whether the decider is being served and not draining.
func (s *Service) Ready() bool { return s.serving.Load() }

// Serve answers on lis until ctx ends, together with grpc's health and reflection
// services. Then it drains: health turns NOT_SERVING, new requests go elsewhere,
// and those in flight have Config.DrainTimeout to end before they are cut off.
// Serve closes lis. It returns nil after a drain and an error if it could not
// serve.
func (s *Service) Serve(ctx context.Context, lis net.Listener) error {
	server := s.newServer()
	server.RegisterService(description(), s)
	healthServer := health.NewServer()
	healthServer.SetServingStatus(berthv1.DeciderService_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
	healthv1.RegisterHealthServer(server, healthServer)
	reflection.Register(server)
	s.metrics.grpc.InitializeMetrics(server)

	ended := make(chan error, 1)
	go func() { ended <- server.Serve(lis) }()
	s.serving.Store(true)
	defer s.serving.Store(false)
	select {
	case err := <-ended:
		return fmt.Errorf("serve on %s: %w", lis.Addr(), err)
	case <-ctx.Done():
	}
	s.serving.Store(false)
	healthServer.Shutdown()
	s.end()
	cut := time.AfterFunc(s.config.DrainTimeout, server.Stop)
	defer cut.Stop()
	server.GracefulStop()
	return <-ended
}

// newServer returns a gRPC server with this decider's limits and interceptors.
func (s *Service) newServer() *grpc.Server {
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(s.config.MaxMessageBytes),
		grpc.MaxSendMsgSize(s.config.MaxMessageBytes),
		// A watcher keeps its connection alive between requests.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		// A watcher that vanished without a word is let go.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// Outermost first: what recovery makes of a panic is counted and logged.
		grpc.ChainUnaryInterceptor(
			s.metrics.grpc.UnaryServerInterceptor(),
			logging.UnaryServerInterceptor(logging.LoggerFunc(s.log), loggingOptions...),
			recovery.UnaryServerInterceptor(recovery.WithRecoveryHandlerContext(s.recover)),
		),
		grpc.ChainStreamInterceptor(
			s.metrics.grpc.StreamServerInterceptor(),
			logging.StreamServerInterceptor(logging.LoggerFunc(s.log), loggingOptions...),
			recovery.StreamServerInterceptor(recovery.WithRecoveryHandlerContext(s.recover)),
		),
	}
	if s.config.Credentials != nil {
		options = append(options, grpc.Creds(s.config.Credentials))
	}
	return grpc.NewServer(options...)
}

var loggingOptions = []logging.Option{
	logging.WithLogOnEvents(logging.FinishCall),
	logging.WithLevels(func(code codes.Code) logging.Level {
		switch code {
		case codes.OK, codes.Canceled:
			return logging.LevelDebug
		case codes.Internal, codes.Unknown, codes.DataLoss:
			return logging.LevelError
		}
		return logging.LevelInfo
	}),
}

// log writes what the interceptor says: failures always, the rest from -v=4 on.
func (s *Service) log(_ context.Context, level logging.Level, message string, fields ...any) {
	switch {
	case level >= logging.LevelError:
		s.config.Logger.Error(nil, message, fields...)
	case level >= logging.LevelInfo:
		s.config.Logger.Info(message, fields...)
	default:
		s.config.Logger.V(4).Info(message, fields...)
	}
}

// recover answers a request that hit a broken invariant. The process goes on: no
// state outlives a request.
func (s *Service) recover(_ context.Context, panicked any) error {
	s.config.Logger.Error(fmt.Errorf("panic: %v", panicked), "Request failed; please report this", "stack", string(debug.Stack()))
	return status.Errorf(codes.Internal, "the decider failed on this request: %v", panicked)
}
