// Package service is the decider's edge: it decodes a request, which is its
// validation, lets the solver decide, and encodes the answer. Nothing invalid
// gets in and nothing internal gets out.
//
// It is exported so that a main of a few lines can serve a policy of its own:
// see New and Service.Serve.
package service

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"
	"k8s.io/klog/v2"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	"github.com/berth-scheduler/berth/decider/policy"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/config"
)

// Config is what a decider is made of. The zero value of every field but Policy
// is useful.
type Config struct {
	// Policy decides between the nodes that can take a pod. Required, unless there
	// is a Solver.
	Policy policy.Policy
	// Solver decides in place of Berth's own rules; Policy and Profiles are unset
	// then. Nil means that they decide.
	Solver Solver
	// Profiles say which rules apply to the pods of each scheduler name, as
	// config.Read returns them; a pod of another scheduler name is INVALID then.
	// None means kube-scheduler's default profile for every scheduler name.
	Profiles []config.Profile
	// Version is the build, as `--version` prints it.
	Version string
	// InstanceID names this process. Empty draws one.
	InstanceID string
	// MaxMessageBytes limits one encoded message, in both directions. 0 means
	// 64 MiB.
	MaxMessageBytes int
	// MaxPods limits the pods in one request. 0 means that the message size
	// alone limits them.
	MaxPods int
	// MaxConcurrent is how many requests are decided at once. 0 means one per
	// processor, or 1 if Serial is set, which allows no more.
	MaxConcurrent int
	// Serial says that answers depend on what was asked before, so that watchers ask one
	// request at a time and never two replicas the same. What-ifs, which people ask, are
	// decided beside them all the same.
	Serial bool
	// MaxWaiting is how many requests may wait for their turn; those beyond
	// are refused with RESOURCE_EXHAUSTED. 0 means 64; negative means none.
	MaxWaiting int
	// MaxStateBytes limits the records, encoded, of the state that Sync feeds; what they
	// take decoded is about four times as much. 0 means 4 GiB.
	MaxStateBytes int64
	// PlainSolver has every pod decided by a look at every node, as the index would, and
	// slower.
	PlainSolver bool
	// OmitStateDigest leaves the digest of the state out of the answers. It
	// costs about as much as decoding the state.
	OmitStateDigest bool
	// DrainTimeout is how long Serve waits for requests in flight after it was
	// told to end. 0 means 10 seconds.
	DrainTimeout time.Duration
	// Credentials are the server's. Nil means plaintext.
	Credentials credentials.TransportCredentials
	// Logger is for requests that fail and, from -v=4 on, for all others. The
	// zero value logs nothing.
	Logger klog.Logger
	// Registerer is where the metrics go. Nil means nowhere.
	Registerer prometheus.Registerer
}

// validate fills in the defaults and returns all complaints at once.
func (c *Config) validate() error {
	var errs []error
	switch {
	case c.Serial && c.MaxConcurrent > 1:
		errs = append(errs, fmt.Errorf("service: Config.MaxConcurrent is %d; with Config.Serial it must be 1 or 0", c.MaxConcurrent))
	case c.Serial && c.MaxConcurrent == 0:
		c.MaxConcurrent = 1
	}
	switch {
	case c.Solver != nil && (c.Policy != nil || len(c.Profiles) > 0):
		errs = append(errs, errors.New("service: Config.Solver decides in place of Config.Policy and Config.Profiles: set either it or them"))
	case c.Solver == nil && c.Policy == nil:
		errs = append(errs, errors.New("service: a decider needs a policy: set Config.Policy, for example to policy.Default()"))
	}
	for _, f := range []struct {
		name         string
		value        *int
		defaultValue int
	}{
		{"MaxMessageBytes", &c.MaxMessageBytes, 64 << 20},
		{"MaxPods", &c.MaxPods, 0},
		{"MaxConcurrent", &c.MaxConcurrent, runtime.GOMAXPROCS(0)},
	} {
		if *f.value < 0 {
			errs = append(errs, fmt.Errorf("service: Config.%s is %d; it must not be negative", f.name, *f.value))
		}
		if *f.value > math.MaxInt32 {
			errs = append(errs, fmt.Errorf("service: Config.%s is %d; it must be at most %d", f.name, *f.value, math.MaxInt32))
		}
		if *f.value == 0 {
			*f.value = f.defaultValue
		}
	}
	if c.MaxStateBytes < 0 {
		errs = append(errs, fmt.Errorf("service: Config.MaxStateBytes is %d; it must not be negative", c.MaxStateBytes))
	}
	if c.MaxStateBytes == 0 {
		c.MaxStateBytes = 4 << 30
	}
	if c.MaxWaiting > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("service: Config.MaxWaiting is %d; it must be at most %d", c.MaxWaiting, math.MaxInt32))
	}
	if c.MaxWaiting == 0 {
		c.MaxWaiting = 64
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 10 * time.Second
	}
	if c.InstanceID == "" {
		c.InstanceID = rand.Text()
	}
	return errors.Join(errs...)
}

// Service answers Describe, Sync and Decide. It may be called concurrently.
type Service struct {
	berthv1.UnimplementedDeciderServiceServer

	config     Config
	digest     string
	profiles   profiles
	solver     solve.Solver
	understood map[string]bool
	admission  *admission
	metrics    *metrics
	held       *held
	serving    atomic.Bool
	// ending is done once the service drains.
	ending context.Context
	end    context.CancelFunc
}

// New returns a decider that is not served yet.
func New(config Config) (*Service, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	profiles, err := newProfiles(config.Profiles, config.Policy)
	if err != nil {
		return nil, err
	}
	// A rule that a profile leaves out is understood all the same: that is what
	// its file asks for.
	understood := filter.Constraints(filter.Default())
	if config.Solver != nil {
		profiles, understood = solverProfiles(config.Solver), solverConstraints(config.Solver)
	}
	s := &Service{
		config:     config,
		profiles:   profiles,
		solver:     solve.Solver{Profile: profiles.of},
		understood: understood,
		metrics:    newMetrics(),
		held:       newHeld(),
	}
	s.ending, s.end = context.WithCancel(context.Background())
	s.admission = newAdmission(config.MaxConcurrent, config.MaxWaiting, s.metrics)
	if s.digest, err = s.configDigest(); err != nil {
		return nil, err
	}
	if config.Registerer != nil {
		if err := s.metrics.register(config.Registerer, s.held); err != nil {
			return nil, fmt.Errorf("service: register metrics: %w", err)
		}
	}
	return s, nil
}

// configDigest covers what decisions depend on besides the build.
func (s *Service) configDigest() (string, error) {
	lines := []string{"policy " + s.name()}
	if s.config.Solver != nil {
		lines = append(lines, "configuration "+s.config.Solver.Configuration())
	}
	if configured, ok := s.config.Policy.(policy.Configured); ok {
		lines = append(lines, "configuration "+configured.Configuration())
	}
	for _, p := range s.config.Profiles {
		encoded, err := json.Marshal(p)
		if err != nil {
			return "", fmt.Errorf("service: digest of Config.Profiles: %w", err)
		}
		lines = append(lines, "profile "+string(encoded))
	}
	sum := sha256.Sum256([]byte(strings.Join(append(lines, s.constraints()...), "\n")))
	return hex.EncodeToString(sum[:]), nil
}

func (s *Service) name() string {
	if s.config.Solver != nil {
		return s.config.Solver.Name()
	}
	return s.config.Policy.Name()
}

func (s *Service) constraints() []string { return slices.Sorted(maps.Keys(s.understood)) }

// Describe introduces the decider.
func (s *Service) Describe(context.Context, *berthv1.DescribeRequest) (*berthv1.DescribeResponse, error) {
	return &berthv1.DescribeResponse{
		Name:         s.name(),
		Version:      s.config.Version,
		InstanceId:   s.config.InstanceID,
		ConfigDigest: s.digest,
		Constraints:  s.constraints(),
		Limits: &berthv1.Limits{
			MaxMessageBytes: int64(s.config.MaxMessageBytes),
			MaxPods:         int32(s.config.MaxPods),
			MaxStateBytes:   s.config.MaxStateBytes,
			Serial:          s.config.Serial,
		},
		UnreadState: s.unreadState(),
	}, nil
}

// decodePods decodes the pods to be decided. A pod that is refused is nil among
// them and has its decision, by index, in refused.
func (s *Service) decodePods(snapshot *model.Snapshot, request *decideRequest) (pods []*model.Pod, refused map[int]*berthv1.Decision) {
	records := request.GetPods()
	pods = make([]*model.Pod, len(records))
	refused = map[int]*berthv1.Decision{}
	seen := make(map[string]bool, len(records))
	for i, record := range records {
		// An earlier pod that was refused counts too.
		if uid := record.GetUid(); seen[uid] {
			refused[i] = invalid(record, i, &model.FieldError{
				Field: "uid", Message: fmt.Sprintf("%q is the uid of an earlier pod of the request", uid),
			})
			continue
		} else if uid != "" {
			seen[uid] = true
		}
		if uid := record.GetUid(); snapshot.Placed(uid) {
			refused[i] = invalid(record, i, &model.FieldError{Field: "uid", Message: fmt.Sprintf("%q is the uid of a pod that is placed already", uid)})
			continue
		}
		kind := request.kind(i)
		if kind != nil {
			if pods[i] = snapshot.NewPodLike(record, kind.record); pods[i] != nil {
				continue
			}
		}
		if s.profiles.of(record.GetSchedulerName()) == nil {
			refused[i] = invalid(record, i, s.profiles.unknown(record.GetSchedulerName()))
			continue
		}
		if name := s.firstUnknown(record.GetConstraints()); name != "" {
			refused[i] = unsupported(record, name)
			continue
		}
		pod, err := snapshot.NewPod(record)
		if err != nil {
			refused[i] = invalid(record, i, err)
			continue
		}
		pods[i] = pod
		if kind != nil {
			snapshot.Remember(pod, kind.record)
		}
	}
	return pods, refused
}

// firstUnknown returns the first constraint that no rule honours, or "".
func (s *Service) firstUnknown(constraints []string) string {
	for _, name := range constraints {
		if !s.understood[name] {
			return name
		}
	}
	return ""
}

func unsupported(record *berthv1.Pod, constraint string) *berthv1.Decision {
	return &berthv1.Decision{
		PodUid:  record.GetUid(),
		Outcome: berthv1.Outcome_OUTCOME_UNSUPPORTED,
		Refusal: &berthv1.Refusal{
			Constraint: constraint,
			Message:    fmt.Sprintf("this decider does not understand the constraint %q", constraint),
		},
	}
}

func invalid(record *berthv1.Pod, index int, err *model.FieldError) *berthv1.Decision {
	return &berthv1.Decision{
		PodUid:  record.GetUid(),
		Outcome: berthv1.Outcome_OUTCOME_INVALID,
		Refusal: &berthv1.Refusal{
			Field:   fmt.Sprintf("pods[%d].%s", index, err.Field),
			Message: err.Message,
		},
	}
}
