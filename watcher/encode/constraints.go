package encode

import (
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/component-helpers/nodedeclaredfeatures"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// UnknownPrefix starts the constraint names of what this build cannot express.
// The path of the field follows. No decider declares such a name, so the pod (or
// the node) waits for a newer watcher instead of being placed wrongly.
const UnknownPrefix = "Unknown/"

// constraints collects names in any order.
type constraints []string

func (c *constraints) add(name string)     { *c = append(*c, name) }
func (c *constraints) unknown(path string) { c.add(UnknownPrefix + path) }

// sorted is the names in order, each once; nil if there are none.
func (c constraints) sorted() []string {
	slices.Sort(c)
	return slices.Compact([]string(c))
}

// podConstraints completes names, which has what was found while encoding.
func podConstraints(p *corev1.Pod, out *berthv1.Pod, names constraints) []string {
	names.add(berthv1.ConstraintNodeResourcesFit)
	if out.NodeName != "" {
		names.add(berthv1.ConstraintNodeName)
	}
	if len(out.NodeSelector) > 0 {
		names.add(berthv1.ConstraintNodeSelector)
	}
	if len(out.HostPorts) > 0 {
		names.add(berthv1.ConstraintNodePorts)
	}
	if a := p.Spec.Affinity; a != nil && a.PodAffinity != nil && len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
		names.add(berthv1.ConstraintPodAffinity)
	}
	if AntiAffinity(p) {
		names.add(berthv1.ConstraintPodAntiAffinity)
	}
	for i := range p.Spec.Volumes {
		volumeConstraint(&p.Spec.Volumes[i].VolumeSource, &names)
	}
	if len(p.Spec.ResourceClaims) > 0 || requestsDevices(out.Requests) {
		names.add(berthv1.ConstraintDynamicResources)
	}
	if len(out.RequiredFeatures) > 0 {
		names.add(berthv1.ConstraintNodeDeclaredFeatures)
	}
	if p.Spec.SchedulingGroup != nil {
		names.add(berthv1.ConstraintGangScheduling)
	}
	return names.sorted()
}

// requestsDevices says whether a resource stands for a device class. Such a
// resource is allocated like a claim and is never among a node's allocatable.
func requestsDevices(requests map[string]int64) bool {
	for name := range requests {
		if strings.HasPrefix(name, resourcev1.ResourceDeviceClassPrefix) {
			return true
		}
	}
	return false
}

// featuresVersion is the Kubernetes version whose rules for declared features
// hold: features that every node has from an earlier version on are not asked for.
var featuresVersion = version.MustParse("1.36.0")

// requiredFeatures are the features that a node must declare for the pod, sorted.
func requiredFeatures(p *corev1.Pod, names *constraints) []string {
	features := nodedeclaredfeatures.DefaultFramework
	// kube-scheduler, too, looks at the spec alone.
	need, err := features.InferForPodScheduling(&nodedeclaredfeatures.PodInfo{Spec: &p.Spec}, featuresVersion)
	if err != nil {
		names.unknown("spec")
		return nil
	}
	if need.IsEmpty() {
		return nil
	}
	required, err := features.Unmap(need)
	if err != nil {
		names.unknown("spec")
	}
	return required
}

// volumeConstraints has, by the kind's name in JSON, the constraint of every kind
// of volume; the empty string is a kind that restricts no node. Kinds that are
// translated to a CSI driver count against that driver's limit per node.
var volumeConstraints = map[string]string{
	"hostPath":    "",
	"emptyDir":    "",
	"secret":      "",
	"configMap":   "",
	"downwardAPI": "",
	"projected":   "",
	"image":       "",
	"csi":         "", // inline: made on the node where the pod runs
	"nfs":         "",
	"gitRepo":     "",
	"glusterfs":   "",
	"cephfs":      "",
	"flexVolume":  "",
	"flocker":     "",
	"fc":          "",
	"quobyte":     "",
	"scaleIO":     "",
	"storageos":   "",

	"photonPersistentDisk": "",

	"persistentVolumeClaim": berthv1.ConstraintVolumeClaims,
	"ephemeral":             berthv1.ConstraintVolumeClaims,

	"gcePersistentDisk":    berthv1.ConstraintVolumeRestrictions,
	"awsElasticBlockStore": berthv1.ConstraintVolumeRestrictions,
	"iscsi":                berthv1.ConstraintVolumeRestrictions,
	"rbd":                  berthv1.ConstraintVolumeRestrictions,
	"azureDisk":            berthv1.ConstraintVolumeRestrictions,
	"azureFile":            berthv1.ConstraintVolumeRestrictions,
	"cinder":               berthv1.ConstraintVolumeRestrictions,
	"vsphereVolume":        berthv1.ConstraintVolumeRestrictions,
	"portworxVolume":       berthv1.ConstraintVolumeRestrictions,
}

// volumeKinds has, for each field of VolumeSource, its name in JSON. By reflection,
// so that a kind that a later API adds is refused by its name.
var volumeKinds = jsonNames(reflect.TypeFor[corev1.VolumeSource]())

func volumeConstraint(v *corev1.VolumeSource, names *constraints) {
	source := reflect.ValueOf(v).Elem()
	known := false
	for i, kind := range volumeKinds {
		if source.Field(i).IsZero() {
			continue
		}
		known = true
		switch name, ok := volumeConstraints[kind]; {
		case !ok:
			names.unknown("spec.volumes." + kind)
		case name != "":
			names.add(name)
		}
	}
	if !known {
		// The API server gives every volume a source. One without is of a kind
		// that this build's API dropped when it decoded the pod.
		names.unknown("spec.volumes")
	}
}

// jsonNames has the fields' names in JSON, by index.
func jsonNames(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return names
}
