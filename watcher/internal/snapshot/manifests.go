package snapshot

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	strictjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/berth-scheduler/berth/watcher/encode"
)

// manifests collects objects; seen has where each was found.
type manifests struct {
	encode.Objects
	seen  map[string]string
	notes io.Writer
}

// readManifests reads the files in order, with defaults applied. Kinds that take no
// part are noted.
func readManifests(files []string, stdin io.Reader, notes io.Writer) (*encode.Objects, error) {
	m := &manifests{seen: map[string]string{}, notes: notes}
	for _, file := range files {
		if err := m.readFile(file, stdin); err != nil {
			return nil, err
		}
	}
	return &m.Objects, nil
}

func (m *manifests) readFile(file string, stdin io.Reader) error {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	} else {
		file = "standard input"
	}
	docs := utilyaml.NewYAMLReader(bufio.NewReader(in))
	for n := 1; ; n++ {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		where := fmt.Sprintf("%s: document %d", file, n)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		raw, err := yaml.YAMLToJSONStrict(doc)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if bytes.Equal(raw, []byte("null")) {
			continue // nothing but comments
		}
		if err := m.add(where, raw); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
}

// add takes one object, or the objects of a list.
func (m *manifests) add(where string, raw []byte) error {
	var head struct {
		metav1.TypeMeta
		Items []json.RawMessage
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return errors.New("not an object of Kubernetes, which has kind and apiVersion")
	}
	switch {
	case head.Kind == "":
		return errors.New("kind: required")
	case head.APIVersion == "":
		return errors.New("apiVersion: required")
	}
	kind := schema.FromAPIVersionAndKind(head.APIVersion, head.Kind)
	if of, ok := strings.CutSuffix(head.Kind, "List"); ok {
		itemKind := kind.GroupVersion().WithKind(of)
		if newObject[itemKind] != nil || kind == corev1.SchemeGroupVersion.WithKind("List") {
			return m.addItems(where, head.Items, itemKind)
		}
	}
	if newObject[kind] == nil {
		if head.APIVersion == "v1" {
			fmt.Fprintf(m.notes, "%s: %s takes no part\n", where, head.Kind)
		} else {
			fmt.Fprintf(m.notes, "%s: %s (%s) takes no part\n", where, head.Kind, head.APIVersion)
		}
		return nil
	}
	o := newObject[kind]()
	if err := decode(raw, o); err != nil {
		return err
	}
	setDefaults(o)
	if err := m.once(where, head.Kind, o); err != nil {
		return err
	}
	m.Add(o)
	return nil
}

func (m *manifests) addItems(where string, items []json.RawMessage, kind schema.GroupVersionKind) error {
	for i, item := range items {
		item, err := withKind(item, kind.Kind, kind.GroupVersion().String())
		if err == nil {
			err = m.add(where, item)
		}
		if err != nil {
			return fmt.Errorf("items[%d]: %w", i, err)
		}
	}
	return nil
}

// object is an object of a kind that takes part.
type object interface {
	metav1.Object
	runtime.Object
}

var newObject = map[schema.GroupVersionKind]func() object{
	corev1.SchemeGroupVersion.WithKind("Pod"):                   func() object { return &corev1.Pod{} },
	corev1.SchemeGroupVersion.WithKind("Node"):                  func() object { return &corev1.Node{} },
	corev1.SchemeGroupVersion.WithKind("Namespace"):             func() object { return &corev1.Namespace{} },
	corev1.SchemeGroupVersion.WithKind("Service"):               func() object { return &corev1.Service{} },
	corev1.SchemeGroupVersion.WithKind("ReplicationController"): func() object { return &corev1.ReplicationController{} },
	appsv1.SchemeGroupVersion.WithKind("ReplicaSet"):            func() object { return &appsv1.ReplicaSet{} },
	appsv1.SchemeGroupVersion.WithKind("StatefulSet"):           func() object { return &appsv1.StatefulSet{} },
	policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"): func() object { return &policyv1.PodDisruptionBudget{} },
}

// withKind gives items of a PodList and the like, which may leave it out, their
// kind.
func withKind(item json.RawMessage, kind, apiVersion string) (json.RawMessage, error) {
	if kind == "" {
		return item, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(item, &fields); err != nil {
		return nil, err
	}
	for name, value := range map[string]string{"kind": kind, "apiVersion": apiVersion} {
		if _, ok := fields[name]; !ok {
			fields[name], _ = json.Marshal(value)
		}
	}
	return json.Marshal(fields)
}

// once refuses an object without a name, or of a name that was there before.
func (m *manifests) once(where, kind string, o metav1.Object) error {
	if o.GetName() == "" {
		return errors.New("metadata.name: required")
	}
	key := kind + " " + o.GetName()
	if o.GetNamespace() != "" {
		key = kind + " " + o.GetNamespace() + "/" + o.GetName()
	}
	for _, k := range []string{key, kind + " with metadata.uid " + string(o.GetUID())} {
		if before, ok := m.seen[k]; ok {
			return fmt.Errorf("%s is in %s already", k, before)
		}
		m.seen[k] = where
	}
	return nil
}

// decode refuses fields that the API does not have. Its errors name the field.
func decode(raw []byte, into any) error {
	if err := checkQuantities(raw); err != nil {
		return err
	}
	strict, err := strictjson.UnmarshalStrict(raw, into)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) && wrong.Field != "" {
		err = fmt.Errorf("%s: want a %s, not a %s", wrong.Field, wrong.Type, wrong.Value)
	}
	return errors.Join(append([]error{err}, strict...)...)
}

// checkQuantities is there because the decoder's errors about quantities do not
// name their field.
func checkQuantities(raw []byte) error {
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return err
	}
	return walk(tree, "")
}

// quantityFields hold resource lists, wherever they are.
var quantityFields = []string{"requests", "limits", "overhead", "allocatable", "capacity", "allocatedResources"}

func walk(tree any, path string) error {
	switch t := tree.(type) {
	case []any:
		for i, item := range t {
			if err := walk(item, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(t)) {
			at := strings.TrimPrefix(path+"."+name, ".")
			list, ok := t[name].(map[string]any)
			if !ok || !slices.Contains(quantityFields, name) {
				if err := walk(t[name], at); err != nil {
					return err
				}
				continue
			}
			for _, key := range slices.Sorted(maps.Keys(list)) {
				if _, err := resource.ParseQuantity(fmt.Sprint(list[key])); err != nil {
					return fmt.Errorf("%s[%s]: %v is not a quantity such as 500m, 2 or 4Gi", at, key, list[key])
				}
			}
		}
	}
	return nil
}
