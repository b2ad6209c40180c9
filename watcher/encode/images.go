package encode

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// images sets the images of the pod's containers, which count one by one, and of its
// volumes, which do not count as containers.
func images(p *corev1.Pod, out *berthv1.Pod) {
	out.Images = make([]string, 0, len(p.Spec.InitContainers)+len(p.Spec.Containers))
	for i := range p.Spec.InitContainers {
		out.Images = append(out.Images, normalizedImageName(p.Spec.InitContainers[i].Image))
	}
	for i := range p.Spec.Containers {
		out.Images = append(out.Images, normalizedImageName(p.Spec.Containers[i].Image))
	}
	for i := range p.Spec.Volumes {
		if v := p.Spec.Volumes[i].Image; v != nil {
			out.VolumeImages = append(out.VolumeImages, normalizedImageName(v.Reference))
		}
	}
}

// normalizedImageName is kube-scheduler's: no tag and no digest, which both have a
// colon after the last slash, mean the tag latest.
func normalizedImageName(name string) string {
	if strings.LastIndexByte(name, ':') <= strings.LastIndexByte(name, '/') {
		return name + ":latest"
	}
	return name
}

// nodeImages has the size of every image by each of its names. Of two images of one
// name the last counts, as in kube-scheduler's NewSnapshot.
func nodeImages(n *corev1.Node) map[string]int64 {
	if len(n.Status.Images) == 0 {
		return nil
	}
	out := map[string]int64{}
	for i := range n.Status.Images {
		image := &n.Status.Images[i]
		for _, name := range image.Names {
			out[name] = image.SizeBytes
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
