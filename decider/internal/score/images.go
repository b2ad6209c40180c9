package score

import "github.com/berth-scheduler/berth/decider/internal/model"

// What images must be worth together to count, and from where more of them make no
// difference, per container.
const (
	mebibyte              = 1 << 20
	minImages             = 23 * mebibyte
	maxImagesPerContainer = 1000 * mebibyte
)

// images likes nodes that have large images of the pod already. An image that many
// nodes have is worth more, so that not all its pods go to the few nodes that have
// it.
//
// The size of an image is what the node itself says it is. In kube-scheduler it is
// what the first node said whose image it saw, which depends on history.
func images(t *model.Turn) Scorer {
	containers, volumes := t.Pod.Record.GetImages(), t.Pod.Record.GetVolumeImages()
	type image struct {
		name   string
		spread float64 // over the nodes, 0 to 1
	}
	var there []image
	for _, names := range [][]string{containers, volumes} {
		for _, name := range names {
			if nodes := t.Snapshot.NodesWithImage(name); nodes > 0 {
				there = append(there, image{name, float64(nodes) / float64(len(t.Snapshot.Nodes))})
			}
		}
	}
	return Scorer{
		Same: len(there) == 0,
		Score: func(n *model.Node) int64 {
			var worth int64
			for _, i := range there {
				if size, ok := n.Record.GetImages()[i.name]; ok {
					worth = add(worth, truncated(float64(size)*i.spread))
				}
			}
			return imageScore(worth, len(containers))
		},
	}
}

// truncated is f without its fraction, within int64.
func truncated(f float64) int64 {
	const limit = 1 << 62 // far beyond what makes a difference
	return int64(min(max(f, -limit), limit))
}

// imageScore scales what images are worth to 0 to Max. The number is that of init
// containers and containers; image volumes add to the worth alone.
func imageScore(worth int64, containers int) int64 {
	most := maxImagesPerContainer * int64(containers)
	if worth < minImages {
		worth = minImages
	} else if worth > most {
		worth = most
	}
	return Max * (worth - minImages) / (most - minImages)
}
