package config

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Default returns what a file that says nothing means: one profile,
// default-scheduler, with kube-scheduler's default plugins.
func Default() *Configuration {
	c, err := Read(fmt.Appendf(nil, "apiVersion: %s\nkind: KubeSchedulerConfiguration\n", schedulerv1.SchemeGroupVersion))
	if err != nil {
		panic("config: the defaults are not valid: " + err.Error())
	}
	return c
}

// ReadFile reads a file by its name. Every line of its error begins with that name.
func ReadFile(name string) (*Configuration, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		var why *os.PathError
		if errors.As(err, &why) {
			err = why.Err
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c, err := Read(data)
	if err != nil {
		return nil, errors.New(name + ": " + strings.ReplaceAll(err.Error(), "\n", "\n"+name+": "))
	}
	return c, nil
}

// Read reads what a file holds, YAML or JSON. Its error joins all complaints, one line each,
// that begins with the path of the field where there is one.
func Read(data []byte) (*Configuration, error) {
	c := &complaints{}
	in := &schedulerv1.KubeSchedulerConfiguration{}
	document := toJSON(data, c)
	if document == nil || !checkKind(nil, document, "KubeSchedulerConfiguration", true, c) || !decode(nil, document, in, c) {
		return nil, c.err()
	}
	out := &Configuration{
		LeaderElection:    readLeaderElection(in, c),
		ClientConnection:  readClientConnection(in, c),
		PodInitialBackoff: time.Duration(readBackoff(field.NewPath("podInitialBackoffSeconds"), in.PodInitialBackoffSeconds, 1, c)) * time.Second,
		PodMaxBackoff:     time.Duration(readBackoff(field.NewPath("podMaxBackoffSeconds"), in.PodMaxBackoffSeconds, 10, c)) * time.Second,
	}
	if out.PodMaxBackoff < out.PodInitialBackoff {
		c.add(field.Invalid(field.NewPath("podMaxBackoffSeconds"), int64(out.PodMaxBackoff/time.Second), "must not be less than podInitialBackoffSeconds"))
	}
	if in.Parallelism != nil && *in.Parallelism <= 0 {
		c.add(field.Invalid(field.NewPath("parallelism"), *in.Parallelism, "must be more than 0"))
	}
	checkPercentage(field.NewPath("percentageOfNodesToScore"), in.PercentageOfNodesToScore, c)
	if len(in.Extenders) > 0 {
		c.add(field.Forbidden(field.NewPath("extenders"), "Berth calls none: remove them, and decide what they decide in a decider of your own (docs/contract.md)"))
	}
	out.Profiles = readProfiles(field.NewPath("profiles"), in.Profiles, c)
	if err := c.err(); err != nil {
		return nil, err
	}
	return out, nil
}

func readProfiles(path *field.Path, in []schedulerv1.KubeSchedulerProfile, c *complaints) []Profile {
	if len(in) == 0 {
		in = []schedulerv1.KubeSchedulerProfile{{}}
	}
	out := make([]Profile, len(in))
	first := map[string]int{}
	for i := range in {
		path := path.Index(i)
		name := valueOr(in[i].SchedulerName, "")
		if len(in) == 1 && in[i].SchedulerName == nil {
			name = "default-scheduler"
		}
		if name == "" {
			c.add(field.Required(path.Child("schedulerName"), "a profile needs one; only a single one may leave it out"))
		} else if j, twice := first[name]; twice {
			c.add(field.Invalid(path.Child("schedulerName"), name, fmt.Sprintf("it is that of profiles[%d]", j)))
		} else {
			first[name] = i
		}
		checkPercentage(path.Child("percentageOfNodesToScore"), in[i].PercentageOfNodesToScore, c)
		enabled, scores := readPlugins(path.Child("plugins"), in[i].Plugins, c)
		out[i] = Profile{
			SchedulerName: name,
			Filters:       enabled["filter"],
			Scores:        scores,
			Preempt:       enabled.has("postFilter", "DefaultPreemption"),
			Args:          readPluginConfig(path.Child("pluginConfig"), in[i].PluginConfig, c),
		}
		if enabled.has("score", nodeSignals) && len(out[i].Args.NodeSignals.Signals) == 0 {
			c.add(field.Required(path.Child("pluginConfig"), "NodeSignals is enabled and needs args.signals that say what it looks at"))
		}
	}
	checkCommonQueueSort(path, in, c)
	return out
}

// checkCommonQueueSort complains where profiles order the queue differently: there
// is one queue.
func checkCommonQueueSort(path *field.Path, in []schedulerv1.KubeSchedulerProfile, c *complaints) {
	queueSort := func(p schedulerv1.KubeSchedulerProfile) schedulerv1.PluginSet {
		if p.Plugins == nil {
			return schedulerv1.PluginSet{}
		}
		return p.Plugins.QueueSort
	}
	equal := func(a, b schedulerv1.Plugin) bool { return a.Name == b.Name && weight(a) == weight(b) }
	for i := range in {
		canon, set := queueSort(in[0]), queueSort(in[i])
		// What is disabled is compared by name alone, as merging keeps no more.
		if !slices.EqualFunc(set.Enabled, canon.Enabled, equal) ||
			!slices.EqualFunc(set.Disabled, canon.Disabled, func(a, b schedulerv1.Plugin) bool { return a.Name == b.Name }) {
			c.add(field.Forbidden(path.Index(i).Child("plugins", "queueSort"), "must be the same for all profiles"))
		}
	}
}

// readLeaderElection takes over what the file says, and complains where that and
// kube-scheduler's defaults contradict each other.
func readLeaderElection(in *schedulerv1.KubeSchedulerConfiguration, c *complaints) LeaderElection {
	e, path := in.LeaderElection, field.NewPath("leaderElection")
	out := LeaderElection{
		LeaderElect:       e.LeaderElect,
		ResourceNamespace: e.ResourceNamespace,
		ResourceName:      e.ResourceName,
		LeaseDuration:     e.LeaseDuration.Duration,
		RenewDeadline:     e.RenewDeadline.Duration,
		RetryPeriod:       e.RetryPeriod.Duration,
	}
	if !valueOr(e.LeaderElect, true) {
		return out
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"leaseDuration", out.LeaseDuration}, {"renewDeadline", out.RenewDeadline}, {"retryPeriod", out.RetryPeriod}} {
		if d.value < 0 {
			c.add(field.Invalid(path.Child(d.name), d.value.String(), "must be more than 0"))
		}
	}
	lease, renew := orElse(out.LeaseDuration, 15*time.Second), orElse(out.RenewDeadline, 10*time.Second)
	if lease <= renew {
		c.add(field.Invalid(path.Child("leaseDuration"), lease.String(), fmt.Sprintf("must be more than renewDeadline, %v", renew)))
	}
	if e.ResourceLock != "" && e.ResourceLock != "leases" {
		c.add(field.NotSupported(path.Child("resourceLock"), e.ResourceLock, []string{"leases"}))
	}
	return out
}

func readClientConnection(in *schedulerv1.KubeSchedulerConfiguration, c *complaints) ClientConnection {
	out := ClientConnection{
		Kubeconfig: in.ClientConnection.Kubeconfig,
		QPS:        in.ClientConnection.QPS,
		Burst:      in.ClientConnection.Burst,
	}
	if out.Burst < 0 {
		c.add(field.Invalid(field.NewPath("clientConnection", "burst"), out.Burst, "must not be negative"))
	}
	return out
}

// maxBackoff is the most seconds that a time.Duration holds.
const maxBackoff = int64(1<<63-1) / int64(time.Second)

// readBackoff returns seconds, in the range of a time.Duration.
func readBackoff(path *field.Path, in *int64, otherwise int64, c *complaints) int64 {
	seconds := valueOr(in, otherwise)
	checkRange(path, seconds, 1, maxBackoff, c)
	return min(max(1, seconds), maxBackoff)
}

func checkPercentage(path *field.Path, in *int32, c *complaints) {
	checkRange(path, int64(valueOr(in, 0)), 0, 100, c)
}

func orElse(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// toJSON returns nil if the data is neither YAML nor JSON. As for kube-scheduler,
// what begins with "{" is JSON.
func toJSON(data []byte, c *complaints) []byte {
	if utilyaml.IsJSONBuffer(data) {
		return data
	}
	document, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		c.add(fmt.Errorf("this is no YAML that can be read: %s", oneLine(err)))
		return nil
	}
	if documents(data) > 1 {
		c.add(errors.New("the file: it holds several YAML documents, and kube-scheduler reads the first alone: leave one"))
	}
	return document
}

// documents counts the YAML documents that say something.
func documents(data []byte) int {
	count := 0
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		part, err := reader.Read()
		if err != nil {
			return count
		}
		if document, err := yaml.YAMLToJSON(part); err != nil || string(document) != "null" {
			count++
		}
	}
}

// checkKind says whether a document is of kind and of the version that is
// understood. Arguments may leave both out, the whole file may not.
func checkKind(path *field.Path, document []byte, kind string, required bool, c *complaints) bool {
	var meta struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(document, &meta); err != nil {
		c.add(typeError(path, err))
		return false
	}
	ok := true
	for _, f := range []struct{ name, value, want string }{
		{"apiVersion", meta.APIVersion, schedulerv1.SchemeGroupVersion.String()},
		{"kind", meta.Kind, kind},
	} {
		if f.value != f.want && (required || f.value != "") {
			c.add(field.NotSupported(path.Child(f.name), f.value, []string{f.want}))
			ok = false
		}
	}
	return ok
}

// decode decodes a document and complains about fields that there are none of. It
// returns false if into is not complete.
func decode(path *field.Path, document []byte, into any, c *complaints) bool {
	strict, err := kjson.UnmarshalStrict(document, into)
	for _, err := range strict {
		problem, _, _ := strings.Cut(err.Error(), ` "`)
		if in, ok := err.(kjson.FieldError); ok {
			c.add(fmt.Errorf("%s: %s", join(path, in.FieldPath()), problem))
		} else {
			c.add(fmt.Errorf("%s: %s", join(path, ""), oneLine(err)))
		}
	}
	if err != nil {
		c.add(typeError(path, err))
		return false
	}
	return true
}

// typeError names the field in which a document holds another type than it should.
func typeError(path *field.Path, err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("%s: %s where there must be %s", join(path, wrong.Field), wrong.Value, typeName(wrong.Type))
	}
	return fmt.Errorf("%s: %s", join(path, ""), oneLine(err))
}

// typeName is JSON's name of a type, with its article.
func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "a list"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "an integer"
}

// join appends a path in kjson's form.
func join(path *field.Path, further string) string {
	switch {
	case path == nil && further == "":
		return "the file"
	case path == nil:
		return further
	case further == "":
		return path.String()
	}
	return path.String() + "." + further
}

func oneLine(err error) string {
	return string(bytes.Join(bytes.Fields([]byte(err.Error())), []byte(" ")))
}

// complaints are what is wrong with a file.
type complaints struct{ errs []error }

// add adds a complaint that has not been made yet.
func (c *complaints) add(err error) {
	if !slices.ContainsFunc(c.errs, func(made error) bool { return made.Error() == err.Error() }) {
		c.errs = append(c.errs, err)
	}
}

func (c *complaints) addList(errs field.ErrorList) {
	for _, err := range errs {
		c.add(err)
	}
}

// addAll adds the errors that err joins, if any.
func (c *complaints) addAll(err error) {
	if err != nil {
		for _, err := range flatten(err) {
			c.add(err)
		}
	}
}

func (c *complaints) err() error { return errors.Join(c.errs...) }
