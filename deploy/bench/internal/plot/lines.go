package plot

import (
	"errors"
	"fmt"
	"math"
)

// Lines shows how a measure grows with a size, both on logarithmic axes, where
// a power is a straight line: one line for each series.
type Lines struct {
	Title string
	// X and Y label the axes: what and in which unit, such as "nodes" and
	// "ns per decision".
	X, Y   string
	Series []Series // at most 16, dashed from the ninth on
}

// A Series is one line.
type Series struct {
	Name string
	// Points are joined in this order; both coordinates are positive. No point
	// is a series that was not measured: it stays in the legend.
	Points []Point
}

// A Point is one measurement.
type Point struct{ X, Y float64 }

// Sizes of lines in pixels.
const (
	linesWidth  = 480.0
	linesHeight = 320.0
)

// SVG returns the picture as a file. An error names the field that cannot be
// drawn.
func (l Lines) SVG() ([]byte, error) {
	if err := l.validate(); err != nil {
		return nil, fmt.Errorf("chart %q: %w", l.Title, err)
	}
	var xs, ys []float64
	for _, s := range l.Series {
		for _, p := range s.Points {
			xs, ys = append(xs, p.X), append(ys, p.Y)
		}
	}
	var labels []string
	for _, t := range newLogAxis(ys, 0, 0).ticks() {
		labels = append(labels, short(t))
	}
	// A label of an axis may be longer than the axis.
	beyond := max(0, (textWidth(l.Y, textSize)-linesHeight)/2)
	left := max(
		margin+textSize+2*gap+widest(textSize, labels...),
		margin+textWidth(l.X, textSize)/2-linesWidth/2,
	)
	top := margin + titleSize + 2*gap + beyond
	x := newLogAxis(xs, left, linesWidth)
	y := newLogAxis(ys, top+linesHeight, -linesHeight)

	var c canvas
	c.text("title", margin, margin+titleSize, start, l.Title)
	for _, t := range x.ticks() {
		c.line("grid", x.pixel(t), top, x.pixel(t), y.at)
		c.text("note", x.pixel(t), y.at+gap+textSize, middle, short(t))
	}
	for _, t := range y.ticks() {
		c.line("grid", left, y.pixel(t), left+linesWidth, y.pixel(t))
		c.text("note", left-gap, y.pixel(t)+textSize/3, end, short(t))
	}
	c.line("axis", left, top, left, y.at)
	c.line("axis", left, y.at, left+linesWidth, y.at)
	c.text("note", left+linesWidth/2, y.at+2*gap+2*textSize, middle, l.X)
	c.upward("note", margin+textSize, top+linesHeight/2, l.Y)

	names := make([]string, len(l.Series))
	for i, s := range l.Series {
		names[i] = s.Name
		c.series(i, s, x, y)
	}
	aside := left + linesWidth + 2*gap
	for i, name := range names {
		centre := top + (float64(i)+0.5)*legendRow
		c.path(lineClass(i), []Point{{aside, centre}, {aside + 2*swatch, centre}})
		c.marker(i, aside+swatch, centre, "")
		c.text("name", aside+2*swatch+gap, centre+textSize/3, start, name)
	}
	width := math.Ceil(max(
		aside+2*swatch+gap+widest(textSize, names...)+margin,
		2*margin+textWidth(l.Title, titleSize),
		left+linesWidth/2+textWidth(l.X, textSize)/2+margin,
	))
	return c.svg(width, y.at+max(2*gap+2*textSize, beyond)+margin, l.Title), nil
}

// lineClass returns the classes of the i-th line.
func lineClass(i int) string {
	if i < colours {
		return "line " + class(i)
	}
	return "line dashed " + class(i)
}

// series draws the i-th line.
func (c *canvas) series(i int, s Series, x, y logAxis) {
	points := make([]Point, len(s.Points))
	for j, p := range s.Points {
		points[j] = Point{x.pixel(p.X), y.pixel(p.Y)}
	}
	if len(points) > 1 {
		c.path(lineClass(i), points)
	}
	for j, p := range s.Points {
		c.marker(i, points[j].X, points[j].Y, fmt.Sprintf("%s: %s at %s", s.Name, number(p.Y), number(p.X)))
	}
}

func (l Lines) validate() error {
	if len(l.Series) > 2*colours {
		return fmt.Errorf("%d series: at most %d can be told apart", len(l.Series), 2*colours)
	}
	points := 0
	for _, s := range l.Series {
		points += len(s.Points)
		for _, p := range s.Points {
			if !positive(p.X) || !positive(p.Y) {
				return fmt.Errorf("series %q: point %v, %v: want finite values above 0, for the axes are logarithmic", s.Name, p.X, p.Y)
			}
		}
	}
	if points == 0 {
		return errors.New("no points: draw nothing instead")
	}
	return nil
}
