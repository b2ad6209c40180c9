package plot

import (
	"errors"
	"fmt"
	"math"
)

// Bars compares systems by one measure, workload by workload: a group of
// horizontal bars for each, one bar for each system, the longer the more, with
// a whisker from the lowest to the highest round.
type Bars struct {
	Title string
	// Unit is what the values are and in which unit, such as "pods/s from first
	// to last bind". It labels the axis, which begins at 0.
	Unit string
	// Systems names the bars of every group, from above to below; at most 8.
	Systems []string
	// Colours says which of the colours 0 to 7 each of Systems has, so that one
	// that is in several pictures looks the same in all; nil is in their order.
	Colours []int
	Groups  []Group
}

// A Group is the bars of one workload.
type Group struct {
	Name string
	// Values has one value for each of Bars.Systems, in their order.
	Values []Value
}

// A Value is what several rounds measured. The zero Value is one that was not
// measured, and is drawn as "no value".
type Value struct {
	// Median is the length of the bar; not negative.
	Median float64
	// Low and High are the ends of the whisker, Low <= Median <= High. Both 0
	// means no whisker, as for a single round.
	Low, High float64
}

// Sizes of bars in pixels.
const (
	barsWidth = 460.0 // of the axis
	barHeight = 14.0
	barStep   = 17.0 // from one bar of a group to the next
	groupGap  = 14.0
)

// SVG returns the picture as a file. An error names the field that cannot be
// drawn.
func (b Bars) SVG() ([]byte, error) {
	if err := b.validate(); err != nil {
		return nil, fmt.Errorf("chart %q: %w", b.Title, err)
	}
	most := 0.0
	names, numbers := []string{}, []string{"no value"}
	for _, g := range b.Groups {
		names = append(names, g.Name)
		for _, v := range g.Values {
			most = max(most, v.Median, v.High)
			numbers = append(numbers, number(v.Median))
		}
	}
	ticks := linearTicks(most)
	left := margin + widest(textSize, names...) + gap
	// Both the number behind the longest bar and half the label of the last tick
	// stand beyond the axis.
	right := left + barsWidth + gap + widest(textSize, numbers...)
	width := math.Ceil(max(
		right+margin,
		2*margin+textWidth(b.Title, titleSize),
		2*margin+textWidth(b.Unit, textSize),
		2*margin+swatch+gap+widest(textSize, b.Systems...),
	))
	pixel := func(v float64) float64 { return left + barsWidth*v/ticks[len(ticks)-1] }

	var c canvas
	c.text("title", margin, margin+titleSize, start, b.Title)
	top := c.legendAcross(margin+titleSize+gap, width, b.Systems, b.colour) + gap
	step := float64(len(b.Systems))*barStep + groupGap
	bottom := top + float64(len(b.Groups))*step
	for _, t := range ticks {
		c.line("grid", pixel(t), top, pixel(t), bottom)
		c.text("note", pixel(t), bottom+gap+textSize, middle, short(t))
	}
	for i, g := range b.Groups {
		y := top + float64(i)*step + groupGap/2
		c.text("name", left-gap, y+(step-groupGap)/2+textSize/3, end, g.Name)
		for s, v := range g.Values {
			c.bar(b.colour(s), left, y+float64(s)*barStep+(barStep-barHeight)/2, pixel, v, g.Name+", "+b.Systems[s])
		}
	}
	c.line("axis", left, top, left, bottom)
	below := bottom + 2*gap + 2*textSize
	c.text("note", max(margin, min(left+barsWidth/2-textWidth(b.Unit, textSize)/2, width-margin-textWidth(b.Unit, textSize))), below, start, b.Unit)
	return c.svg(width, below+margin, b.Title), nil
}

// colour returns that of the i-th system.
func (b Bars) colour(i int) int {
	if b.Colours == nil {
		return i
	}
	return b.Colours[i]
}

// bar draws a bar from x on, y being its upper edge.
func (c *canvas) bar(colour int, x, y float64, pixel func(float64) float64, v Value, of string) {
	centre := y + barHeight/2
	if v == (Value{}) {
		c.text("note", x+gap, centre+textSize/3, start, "no value")
		return
	}
	hint, right := of+": "+number(v.Median), pixel(v.Median)
	if v.High > 0 {
		hint += " (" + number(v.Low) + " to " + number(v.High) + ")"
		right = pixel(v.High)
	}
	c.rect(class(colour), x, y, pixel(v.Median)-x, barHeight, hint)
	if v.High > 0 {
		low, high := pixel(v.Low), pixel(v.High)
		c.line("spread", low, centre, high, centre)
		c.line("spread", low, centre-3, low, centre+3)
		c.line("spread", high, centre-3, high, centre+3)
	}
	c.text("value", right+gap, centre+textSize/3, start, number(v.Median))
}

// legendAcross writes which colour is which, from left to right in as many rows
// as it takes, and returns the lower edge of the last.
func (c *canvas) legendAcross(y, width float64, names []string, colour func(i int) int) float64 {
	x := margin
	for i, name := range names {
		w := swatch + gap + textWidth(name, textSize)
		if i > 0 && x+w > width-margin {
			x, y = margin, y+legendRow
		}
		c.rect(class(colour(i)), x, y+(legendRow-swatch)/2, swatch, swatch, "")
		c.text("name", x+swatch+gap, y+legendRow/2+textSize/3, start, name)
		x += w + 2*gap
	}
	return y + legendRow
}

func (b Bars) validate() error {
	switch {
	case len(b.Groups) == 0:
		return errors.New("no groups: draw nothing instead")
	case len(b.Systems) == 0 || len(b.Systems) > colours:
		return fmt.Errorf("%d systems: from 1 to %d can be told apart", len(b.Systems), colours)
	case b.Colours != nil && len(b.Colours) != len(b.Systems):
		return fmt.Errorf("%d colours for %d systems: give one for each, or none", len(b.Colours), len(b.Systems))
	}
	for i, colour := range b.Colours {
		if colour < 0 || colour >= colours {
			return fmt.Errorf("system %q: colour %d: there are 0 to %d", b.Systems[i], colour, colours-1)
		}
	}
	for _, g := range b.Groups {
		if len(g.Values) != len(b.Systems) {
			return fmt.Errorf("group %q: %d values for %d systems: give one for each", g.Name, len(g.Values), len(b.Systems))
		}
		for i, v := range g.Values {
			if err := v.validate(); err != nil {
				return fmt.Errorf("group %q, system %q: %w", g.Name, b.Systems[i], err)
			}
		}
	}
	return nil
}

func (v Value) validate() error {
	switch {
	case !finite(v.Median) || !finite(v.Low) || !finite(v.High):
		return fmt.Errorf("median %v, low %v, high %v: want finite values that are not negative", v.Median, v.Low, v.High)
	case v.High == 0 && v.Low == 0:
		return nil
	case v.Low > v.Median || v.Median > v.High:
		return fmt.Errorf("median %v is not from low %v to high %v", v.Median, v.Low, v.High)
	}
	return nil
}
