package plot_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/berth-scheduler/berth/deploy/bench/internal/plot"
)

var rewrite = flag.Bool("rewrite", false, "write what the pictures are into testdata")

// A picture is Bars or Lines.
type picture interface{ SVG() ([]byte, error) }

var pictures = map[string]picture{
	"bars.svg": plot.Bars{
		Title:   "Pods bound per second, 5,000 nodes",
		Unit:    "pods/s from first to last bind, median of 3 rounds",
		Systems: []string{"bare binding", "kube-scheduler 1.36.3", "Berth"},
		Groups: []plot.Group{
			{Name: "equal pods", Values: []plot.Value{{806, 790, 815}, {194.4, 190, 201}, {790, 720, 801}}},
			{Name: "hard zone spread", Values: []plot.Value{{801, 795, 820}, {78, 77.1, 79}, {0, 0, 0}}},
			{Name: "a < b & \"c\"", Values: []plot.Value{{Median: 1234}, {Median: 0.0123}, {Median: 4.5}}},
		},
	},
	"lines.svg": plot.Lines{
		Title: "Cost of one decision",
		X:     "nodes",
		Y:     "ns per decision",
		Series: []plot.Series{
			{Name: "plain, 20 classes", Points: []plot.Point{{1e3, 21e3}, {5e3, 104e3}, {50e3, 1.2e6}, {1e6, 27e6}}},
			{Name: "indexed, 20 classes", Points: []plot.Point{{1e3, 4100}, {5e3, 5200}, {50e3, 7100}, {1e6, 9900}}},
			{Name: "upstream", Points: []plot.Point{{1e3, 4e6}}},
			{Name: "not measured"},
		},
	},
	"coloured.svg": plot.Bars{
		Title: "Without bare binding, and Berth as green as with it", Unit: "ms per pod",
		Systems: []string{"kube-scheduler", "Berth"}, Colours: []int{1, 2},
		Groups: []plot.Group{{Name: "equal pods", Values: []plot.Value{{Median: 4.5}, {Median: 0.25}}}},
	},
	"dashed.svg": plot.Lines{Title: "More lines than colours", X: "nodes", Y: "bytes", Series: many()},
	"few.svg": plot.Lines{Title: "Two powers of ten have finer ticks", X: "bytes", Y: "seconds", Series: []plot.Series{
		{Name: "full", Points: []plot.Point{{1, 0.02}, {30, 0.5}}},
	}},
}

// many returns as many lines as can be told apart.
func many() []plot.Series {
	lines := make([]plot.Series, 16)
	for i := range lines {
		y := math.Pow(10, float64(i)/4)
		lines[i] = plot.Series{Name: fmt.Sprintf("%d classes", i+1), Points: []plot.Point{{1e3, y}, {1e6, y * 30}}}
	}
	return lines
}

func TestPictures(t *testing.T) {
	for name, p := range pictures {
		got, err := p.SVG()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		check(t, got)
		file := filepath.Join("testdata", name)
		if *rewrite {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s has changed; look at it and rewrite it with -rewrite", name)
		}
	}
}

// Whatever is asked for is a picture that a browser can read, in which every
// text and mark lies within the frame.
func TestAnythingFits(t *testing.T) {
	name := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW", "a\x00b"}))
	rapid.Check(t, func(t *rapid.T) {
		measured := rapid.Custom(func(t *rapid.T) plot.Value {
			low := rapid.Float64Range(0, 1e9).Draw(t, "low")
			median := low + rapid.Float64Range(0, 1e9).Draw(t, "above low")
			return plot.Value{Median: median, Low: low, High: median + rapid.Float64Range(0, 1e9).Draw(t, "above")}
		})
		bars := plot.Bars{
			Title: name.Draw(t, "title"), Unit: name.Draw(t, "unit"),
			Systems: rapid.SliceOfN(name, 1, 8).Draw(t, "systems"),
		}
		values := rapid.SliceOfN(rapid.OneOf(measured, rapid.Just(plot.Value{})), len(bars.Systems), len(bars.Systems))
		for range rapid.IntRange(1, 5).Draw(t, "groups") {
			bars.Groups = append(bars.Groups, plot.Group{Name: name.Draw(t, "group"), Values: values.Draw(t, "values")})
		}
		coordinate := rapid.Custom(func(t *rapid.T) float64 { return math.Pow(10, rapid.Float64Range(-9, 12).Draw(t, "exponent")) })
		lines := plot.Lines{Title: name.Draw(t, "title"), X: name.Draw(t, "x"), Y: name.Draw(t, "y")}
		for range rapid.IntRange(1, 16).Draw(t, "series") {
			var points []plot.Point
			for range rapid.IntRange(1, 6).Draw(t, "points") {
				points = append(points, plot.Point{X: coordinate.Draw(t, "x"), Y: coordinate.Draw(t, "y")})
			}
			lines.Series = append(lines.Series, plot.Series{Name: name.Draw(t, "name"), Points: points})
		}
		for _, p := range []picture{bars, lines} {
			got, err := p.SVG()
			if err != nil {
				t.Fatal(err)
			}
			check(t, got)
			if again, _ := p.SVG(); !bytes.Equal(got, again) {
				t.Fatal("the same values gave other bytes")
			}
		}
	})
}

func TestNamesWhatCannotBeDrawn(t *testing.T) {
	group := func(values ...plot.Value) []plot.Group { return []plot.Group{{Name: "w", Values: values}} }
	line := func(points ...plot.Point) []plot.Series { return []plot.Series{{Name: "s", Points: points}} }
	for want, p := range map[string]picture{
		`no groups`:                            plot.Bars{Systems: []string{"a"}},
		`0 systems`:                            plot.Bars{Groups: group()},
		`9 systems`:                            plot.Bars{Systems: make([]string, 9), Groups: group(make([]plot.Value, 9)...)},
		`2 colours for 1 systems`:              plot.Bars{Systems: []string{"a"}, Colours: []int{1, 2}, Groups: group(plot.Value{})},
		`system "a": colour 8`:                 plot.Bars{Systems: []string{"a"}, Colours: []int{8}, Groups: group(plot.Value{})},
		`group "w": 2`:                         plot.Bars{Systems: []string{"a"}, Groups: group(plot.Value{}, plot.Value{})},
		`group "w", system "a": median -1`:     plot.Bars{Systems: []string{"a"}, Groups: group(plot.Value{Median: -1})},
		`median NaN`:                           plot.Bars{Systems: []string{"a"}, Groups: group(plot.Value{Median: math.NaN()})},
		`high +Inf`:                            plot.Bars{Systems: []string{"a"}, Groups: group(plot.Value{Median: 1, High: math.Inf(1)})},
		`median 3 is not from low 1 to high 2`: plot.Bars{Systems: []string{"a"}, Groups: group(plot.Value{Median: 3, Low: 1, High: 2})},
		`median 1 is not from low 2 to high 3`: plot.Bars{Systems: []string{"a"}, Groups: group(plot.Value{Median: 1, Low: 2, High: 3})},
		`no points`:                            plot.Lines{Series: line()},
		`17 series`:                            plot.Lines{Series: make([]plot.Series, 17)},
		`series "s": point 0, 1: want finite values abov`: plot.Lines{Series: line(plot.Point{X: 0, Y: 1})},
		`point 1, NaN`:  plot.Lines{Series: line(plot.Point{X: 1, Y: math.NaN()})},
		`point 1, +Inf`: plot.Lines{Series: line(plot.Point{X: 1, Y: math.Inf(1)})},
	} {
		if _, err := p.SVG(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
}

// Every colour is told from its background by all who can read text on it.
func TestContrast(t *testing.T) {
	got, err := pictures["bars.svg"].SVG()
	if err != nil {
		t.Fatal(err)
	}
	light, dark, ok := strings.Cut(string(got), "@media")
	if !ok {
		t.Fatal("no colours for dark")
	}
	fill := regexp.MustCompile(`(?m)^(?:text|\.(note|back|s\d))\{.*fill:(#[0-9a-f]{6})`)
	for scheme, css := range map[string]string{"light": light, "dark": dark} {
		colours := map[string]string{}
		for _, m := range fill.FindAllStringSubmatch(css, -1) {
			colours[m[1]] = m[2]
		}
		if len(colours) != 11 { // the background, two of text, eight of series
			t.Fatalf("%s: colours %v", scheme, colours)
		}
		for name, colour := range colours {
			least := 3.0
			if name == "" || name == "note" {
				least = 4.5
			}
			if c := contrast(t, colour, colours["back"]); name != "back" && c < least {
				t.Errorf("%s: contrast of %q is %.2f, want at least %v", scheme, name, c, least)
			}
		}
	}
}

// contrast is the contrast ratio of WCAG 2.2.
func contrast(t *testing.T, a, b string) float64 {
	luminance := func(colour string) float64 {
		v, err := strconv.ParseUint(colour[1:], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		linear := func(shift int, weight float64) float64 {
			c := float64(v>>shift&0xff) / 255
			if c <= 0.04045 {
				return weight * c / 12.92
			}
			return weight * math.Pow((c+0.055)/1.055, 2.4)
		}
		return linear(16, 0.2126) + linear(8, 0.7152) + linear(0, 0.0722)
	}
	la, lb := luminance(a)+0.05, luminance(b)+0.05
	return max(la, lb) / min(la, lb)
}

// check fails unless svg is well-formed and all that it draws lies within it. A
// text is taken to be as wide as 0.55 em a letter, which the usual fonts are on
// average.
func check(t interface{ Fatalf(string, ...any) }, svg []byte) {
	var width, height float64
	within := func(what string, x, y float64) {
		if !(x >= 0 && x <= width && y >= 0 && y <= height) {
			t.Fatalf("%s at %v, %v is outside %v x %v", what, x, y, width, height)
		}
	}
	d := xml.NewDecoder(bytes.NewReader(svg))
	var text struct {
		attribute func(string) string
		open      bool
	}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			attrs := map[string]string{}
			for _, a := range token.Attr {
				attrs[a.Name.Local] = a.Value
			}
			number := func(name string) float64 {
				v, err := strconv.ParseFloat(attrs[name], 64)
				if err != nil {
					t.Fatalf("<%s %s=%q>: %v", token.Name.Local, name, attrs[name], err)
				}
				return v
			}
			switch token.Name.Local {
			case "svg":
				width, height = number("width"), number("height")
			case "line":
				within("line", number("x1"), number("y1"))
				within("line", number("x2"), number("y2"))
			case "circle":
				within("circle", number("cx"), number("cy"))
			case "rect":
				if attrs["class"] != "back" {
					within("rect", number("x"), number("y"))
					within("rect", number("x")+number("width"), number("y")+number("height"))
				}
			case "text":
				text.open, text.attribute = true, func(name string) string { return attrs[name] }
			}
		case xml.EndElement:
			text.open = text.open && token.Name.Local != "text"
		case xml.CharData:
			if !text.open {
				continue
			}
			size := 12.0
			if text.attribute("class") == "title" {
				size = 15
			}
			long := 0.55 * size * float64(utf8.RuneCount(token))
			if upward := regexp.MustCompile(`^translate\((\S+) (\S+)\) rotate\(-90\)$`).FindStringSubmatch(text.attribute("transform")); upward != nil {
				x, _ := strconv.ParseFloat(upward[1], 64)
				y, _ := strconv.ParseFloat(upward[2], 64)
				within(string(token), x-size, y-long/2)
				within(string(token), x, y+long/2)
				continue
			}
			x, errX := strconv.ParseFloat(text.attribute("x"), 64)
			y, errY := strconv.ParseFloat(text.attribute("y"), 64)
			if errX != nil || errY != nil {
				t.Fatalf("text %q: position %v, %v", token, errX, errY)
			}
			switch text.attribute("text-anchor") {
			case "middle":
				x -= long / 2
			case "end":
				x -= long
			}
			within(string(token), x, y-size)
			within(string(token), x+long, y)
		}
	}
}
