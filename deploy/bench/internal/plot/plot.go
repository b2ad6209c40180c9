// Package plot draws measurements as SVG pictures.
//
// A picture needs nothing but itself: no script, no font, no style sheet. It
// has a background of its own and follows the reader's preference for light or
// dark. The same values give the same bytes.
package plot

import (
	"fmt"
	"math"
)

// style gives every class its colours. The series are told apart by colour, and
// on lines by the marker too; all have a contrast of at least 3 to 1 with the
// background, text of at least 4.5 to 1, as the Web Content Accessibility
// Guidelines ask.
const style = `
text{font-family:system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;font-size:12px;fill:#1f2328}
.title{font-size:15px;font-weight:600}
.note{fill:#59636e}
.back{fill:#ffffff}
.grid{stroke:#d1d9e0;stroke-width:1}
.axis{stroke:#59636e;stroke-width:1}
.spread{stroke:#1f2328;stroke-width:1.5}
.line.line{fill:none;stroke-width:2}
.dashed{stroke-dasharray:6 4}
.s0{fill:#0969da;stroke:#0969da}
.s1{fill:#bc4c00;stroke:#bc4c00}
.s2{fill:#1a7f37;stroke:#1a7f37}
.s3{fill:#8250df;stroke:#8250df}
.s4{fill:#6e7781;stroke:#6e7781}
.s5{fill:#bf3989;stroke:#bf3989}
.s6{fill:#0f7b8a;stroke:#0f7b8a}
.s7{fill:#9a6700;stroke:#9a6700}
@media (prefers-color-scheme:dark){
text{fill:#f0f6fc}
.note{fill:#9198a1}
.back{fill:#0d1117}
.grid{stroke:#30363d}
.axis{stroke:#9198a1}
.spread{stroke:#f0f6fc}
.s0{fill:#58a6ff;stroke:#58a6ff}
.s1{fill:#f0883e;stroke:#f0883e}
.s2{fill:#3fb950;stroke:#3fb950}
.s3{fill:#bc8cff;stroke:#bc8cff}
.s4{fill:#8b949e;stroke:#8b949e}
.s5{fill:#f778ba;stroke:#f778ba}
.s6{fill:#39c5cf;stroke:#39c5cf}
.s7{fill:#d29922;stroke:#d29922}
}
`

// colours is how many there are, and so how many systems bars can tell apart;
// lines are dashed once they are used up, and so there can be twice as many.
const colours = 8

// Sizes in pixels, shared by every picture.
const (
	margin    = 20.0 // around everything
	textSize  = 12.0
	titleSize = 15.0
	gap       = 8.0  // between a mark and the text that names it
	legendRow = 20.0 // from one entry of the legend to the one below
	swatch    = 12.0
)

// class returns the class that has the colours of the i-th series.
func class(i int) string { return fmt.Sprintf("s%d", i%colours) }

// finite says whether v can be drawn on a linear axis that begins at zero.
func finite(v float64) bool { return v >= 0 && !math.IsInf(v, 1) }

// positive says whether v can be drawn on a logarithmic axis.
func positive(v float64) bool { return v > 0 && !math.IsInf(v, 1) }
