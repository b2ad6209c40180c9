package encode

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fields says of every field of the API's types that bear on scheduling whether it
// is encoded ("+") or restricts no node ("-"). A field of a newer API that is in
// neither list fails the test: someone must decide.
var fields = map[reflect.Type]string{
	reflect.TypeFor[corev1.PodSpec](): `
		+volumes +initContainers +containers +nodeSelector +nodeName +affinity +schedulerName +tolerations
		+priority +preemptionPolicy +overhead +topologySpreadConstraints +resourceClaims +resources
		+schedulingGroup +hostNetwork +hostUsers
		-ephemeralContainers -restartPolicy -terminationGracePeriodSeconds -activeDeadlineSeconds -dnsPolicy
		-serviceAccountName -serviceAccount -automountServiceAccountToken -hostPID -hostIPC
		-shareProcessNamespace -securityContext -imagePullSecrets -hostname -subdomain -hostAliases
		-priorityClassName -dnsConfig -readinessGates -runtimeClassName -enableServiceLinks
		-setHostnameAsFQDN -os -hostnameOverride -schedulingGates`,
	reflect.TypeFor[corev1.Container](): `
		+ports +resources +restartPolicy +restartPolicyRules
		+image -name -command -args -workingDir -envFrom -env -resizePolicy -volumeMounts -volumeDevices
		-livenessProbe -readinessProbe -startupProbe -lifecycle -terminationMessagePath
		-terminationMessagePolicy -imagePullPolicy -securityContext -stdin -stdinOnce -tty`,
	reflect.TypeFor[corev1.ResourceRequirements](): `+requests -limits -claims`,
	reflect.TypeFor[corev1.ContainerPort]():        `+hostPort +hostIP +protocol -name -containerPort`,
	reflect.TypeFor[corev1.Affinity]():             `+nodeAffinity +podAffinity +podAntiAffinity`,
	reflect.TypeFor[corev1.NodeAffinity](): `
		+requiredDuringSchedulingIgnoredDuringExecution +preferredDuringSchedulingIgnoredDuringExecution`,
	reflect.TypeFor[corev1.PodAffinity](): `
		+requiredDuringSchedulingIgnoredDuringExecution +preferredDuringSchedulingIgnoredDuringExecution`,
	reflect.TypeFor[corev1.PodAntiAffinity](): `
		+requiredDuringSchedulingIgnoredDuringExecution +preferredDuringSchedulingIgnoredDuringExecution`,
	// The API server merges the keys into the selector.
	reflect.TypeFor[corev1.PodAffinityTerm](): `
		+labelSelector +namespaces +topologyKey +namespaceSelector -matchLabelKeys -mismatchLabelKeys`,
	reflect.TypeFor[corev1.WeightedPodAffinityTerm](): `+weight +podAffinityTerm`,
	reflect.TypeFor[corev1.TopologySpreadConstraint](): `
		+maxSkew +topologyKey +whenUnsatisfiable +labelSelector +minDomains +nodeAffinityPolicy
		+nodeTaintsPolicy +matchLabelKeys`,
	reflect.TypeFor[metav1.LabelSelector]():            `+matchLabels +matchExpressions`,
	reflect.TypeFor[metav1.LabelSelectorRequirement](): `+key +operator +values`,
	reflect.TypeFor[corev1.ImageVolumeSource]():        `+reference -pullPolicy`,
	reflect.TypeFor[corev1.PodStatus](): `
		+phase +conditions +nominatedNodeName +startTime +initContainerStatuses +containerStatuses
		+allocatedResources +resources
		-observedGeneration -message -reason -hostIP -hostIPs -podIP -podIPs -qosClass
		-ephemeralContainerStatuses -resize -resourceClaimStatuses -extendedResourceClaimStatus
		-nodeAllocatableResourceClaimStatuses`,
	reflect.TypeFor[corev1.ContainerImage](): `+names +sizeBytes`,
	reflect.TypeFor[policyv1.PodDisruptionBudgetSpec](): `
		+selector -minAvailable -maxUnavailable -unhealthyPodEvictionPolicy`,
	reflect.TypeFor[policyv1.PodDisruptionBudgetStatus](): `
		+disruptedPods +disruptionsAllowed -observedGeneration -currentHealthy -desiredHealthy -expectedPods -conditions`,
	reflect.TypeFor[corev1.NodeSelector]():            `+nodeSelectorTerms`,
	reflect.TypeFor[corev1.NodeSelectorTerm]():        `+matchExpressions +matchFields`,
	reflect.TypeFor[corev1.NodeSelectorRequirement](): `+key +operator +values`,
	reflect.TypeFor[corev1.Toleration]():              `+key +operator +value +effect -tolerationSeconds`,
	reflect.TypeFor[corev1.NodeSpec](): `
		+unschedulable +taints -podCIDR -podCIDRs -providerID -configSource -externalID`,
	reflect.TypeFor[corev1.Taint]():         `+key +value +effect -timeAdded`,
	reflect.TypeFor[corev1.NodeCondition](): `+type +status -lastHeartbeatTime -lastTransitionTime -reason -message`,
	reflect.TypeFor[corev1.NodeStatus](): `
		+allocatable +conditions -capacity -phase -addresses -daemonEndpoints -nodeInfo +images -volumesInUse
		-volumesAttached -config -runtimeHandlers -features +declaredFeatures`,
}

func TestEveryFieldIsDecidedOn(t *testing.T) {
	for typ, text := range fields {
		listed := map[string]bool{}
		for _, field := range strings.Fields(text) {
			listed[field[1:]] = true
		}
		for _, name := range jsonNames(typ) {
			if !listed[name] {
				t.Errorf("%s.%s is new: encode it, or list it as restricting no node", typ.Name(), name)
			}
			delete(listed, name)
		}
		for name := range maps.Keys(listed) {
			t.Errorf("%s has no field %s any more", typ.Name(), name)
		}
	}
}

// TestEveryKindOfVolumeIsDecidedOn is the same for volumes, whose table is in the
// package itself because there a new kind must be refused until it is listed.
func TestEveryKindOfVolumeIsDecidedOn(t *testing.T) {
	for _, kind := range volumeKinds {
		if _, ok := volumeConstraints[kind]; !ok {
			t.Errorf("the kind of volume %s is new", kind)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(volumeConstraints)) {
		if !slices.Contains(volumeKinds, kind) {
			t.Errorf("there is no kind of volume %s any more", kind)
		}
	}
	for i := range volumeKinds {
		source := corev1.VolumeSource{}
		field := reflect.ValueOf(&source).Elem().Field(i)
		field.Set(reflect.New(field.Type().Elem()))
		var names constraints
		volumeConstraint(&source, &names)
		if want := volumeConstraints[volumeKinds[i]]; strings.Join(names, " ") != want {
			t.Errorf("%s: constraints %v, want %q", volumeKinds[i], names, want)
		}
	}
}

// TestUnlistedKindOfVolume takes a kind out of the table, which is what a newer API
// looks like.
func TestUnlistedKindOfVolume(t *testing.T) {
	old := volumeConstraints["nfs"]
	delete(volumeConstraints, "nfs")
	t.Cleanup(func() { volumeConstraints["nfs"] = old })
	p := &corev1.Pod{}
	p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}}}
	if got := Pod(p).Constraints; !slices.Contains(got, "Unknown/spec.volumes.nfs") {
		t.Errorf("constraints %v do not name the volume", got)
	}
}
