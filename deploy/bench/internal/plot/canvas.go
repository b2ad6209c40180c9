package plot

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
)

// A canvas is a picture in the making. Coordinates are pixels from the top left
// corner, written with one decimal, so that the last bits of a logarithm do not
// show.
type canvas struct {
	body bytes.Buffer
}

// px writes a coordinate.
func px(v float64) string {
	s := strconv.FormatFloat(v, 'f', 1, 64)
	return strings.TrimSuffix(strings.Replace(s, "-0.0", "0.0", 1), ".0")
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&c.body, "<line class=%q x1=%q y1=%q x2=%q y2=%q/>\n", class, px(x1), px(y1), px(x2), px(y2))
}

// rect draws a rectangle; a hint that is not empty is what a browser shows for
// it under the pointer.
func (c *canvas) rect(class string, x, y, w, h float64, hint string) {
	fmt.Fprintf(&c.body, "<rect class=%q x=%q y=%q width=%q height=%q", class, px(x), px(y), px(w), px(h))
	c.end("rect", hint)
}

// end closes an element that has nothing in it but a hint.
func (c *canvas) end(element, hint string) {
	if hint == "" {
		c.body.WriteString("/>\n")
		return
	}
	fmt.Fprintf(&c.body, "><title>%s</title></%s>\n", escape(hint), element)
}

// An anchor says which part of a text is at its position.
type anchor string

const (
	start  anchor = "start"
	middle anchor = "middle"
	end    anchor = "end"
)

// text writes s with its baseline at y.
func (c *canvas) text(class string, x, y float64, at anchor, s string) {
	fmt.Fprintf(&c.body, "<text class=%q x=%q y=%q text-anchor=%q>%s</text>\n", class, px(x), px(y), at, escape(s))
}

// upward writes s centred around the point, read from below to above.
func (c *canvas) upward(class string, x, y float64, s string) {
	fmt.Fprintf(&c.body, "<text class=%q transform=\"translate(%s %s) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
		class, px(x), px(y), escape(s))
}

// path joins points by straight lines.
func (c *canvas) path(class string, points []Point) {
	var d strings.Builder
	for i, p := range points {
		d.WriteByte("ML"[min(i, 1)])
		d.WriteString(px(p.X) + " " + px(p.Y))
	}
	fmt.Fprintf(&c.body, "<path class=%q d=%q/>\n", class, d.String())
}

// marker draws the mark of the i-th series around a point.
func (c *canvas) marker(i int, x, y float64, hint string) {
	shape := outlines[i%len(outlines)]
	if shape == nil {
		fmt.Fprintf(&c.body, "<circle class=%q cx=%q cy=%q r=\"4\"", class(i), px(x), px(y))
		c.end("circle", hint)
		return
	}
	var corners []string
	for _, p := range shape {
		corners = append(corners, px(x+p.X)+","+px(y+p.Y))
	}
	fmt.Fprintf(&c.body, "<polygon class=%q points=%q", class(i), strings.Join(corners, " "))
	c.end("polygon", hint)
}

// outlines of the markers: circle, square, triangle, diamond, and the triangle
// upside down. There are fewer than colours and their number has no common
// divisor with it, so that neither repeats with the other.
var outlines = [][]Point{
	nil,
	{{-3.5, -3.5}, {3.5, -3.5}, {3.5, 3.5}, {-3.5, 3.5}},
	{{0, -4.5}, {4.5, 3.5}, {-4.5, 3.5}},
	{{0, -5}, {5, 0}, {0, 5}, {-5, 0}},
	{{0, 4.5}, {4.5, -3.5}, {-4.5, -3.5}},
}

// svg returns the picture in its frame. title is what a screen reader says.
func (c *canvas) svg(width, height float64, title string) []byte {
	var out bytes.Buffer
	w, h := px(width), px(height)
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%s" height="%s" viewBox="0 0 %s %s" role="img">`+"\n", w, h, w, h)
	fmt.Fprintf(&out, "<title>%s</title>\n<style>%s</style>\n", escape(title), style)
	fmt.Fprintf(&out, "<rect class=\"back\" width=%q height=%q/>\n", w, h)
	out.Write(c.body.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// escape makes s text of an XML document; what XML cannot hold becomes U+FFFD.
func escape(s string) string {
	var out strings.Builder
	// A strings.Builder never fails, and nothing else in EscapeText can.
	_ = xml.EscapeText(&out, []byte(s))
	return out.String()
}
