package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// ink is the colour of axes and words. In a page it becomes the page's own, so
// that figures can be read on a dark ground too.
var ink = color.NRGBA{R: 0x22, G: 0x22, B: 0x23, A: 0xff}

// palette has colours that can be told apart on light and on dark ground.
var palette = []color.NRGBA{
	{0x3b, 0x82, 0xf6, 0xff}, {0xf9, 0x73, 0x16, 0xff}, {0x10, 0xa3, 0x6b, 0xff}, {0xe1, 0x4b, 0x6b, 0xff}, {0x8b, 0x5c, 0xf6, 0xff},
	{0xc0, 0x8a, 0x12, 0xff}, {0x0e, 0xa5, 0xc6, 0xff}, {0xd9, 0x46, 0xc8, 0xff}, {0x6b, 0x9e, 0x1f, 0xff}, {0x9a, 0x6b, 0x4f, 0xff},
	{0x7c, 0x8a, 0x99, 0xff}, {0x47, 0x5f, 0xd6, 0xff}, {0xb4, 0x53, 0x09, 0xff}, {0x9f, 0x12, 0x39, 0xff},
}

// Figure is a figure of the report.
type Figure struct {
	ID      string
	Title   string
	How     string // it was measured
	plot    *plot.Plot
	width   vg.Length
	height  vg.Length
	legend  vg.Length // the room for it at the right
	Columns []string  // of the table with what is drawn
	Rows    [][]string
}

// newFigure makes an empty figure.
func newFigure(id, title, how, x, y string) *Figure {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color, axis.Tick.Color, axis.Tick.Label.Color, axis.Label.TextStyle.Color = ink, ink, ink, ink
		axis.Padding = vg.Points(4)
	}
	p.X.Label.Text, p.Y.Label.Text = x, y
	p.Legend.TextStyle.Color = ink
	for _, f := range []*font.Font{&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font, &p.Legend.TextStyle.Font} {
		f.Variant, f.Size = "Sans", 11
	}
	p.Legend.Top = true
	p.Legend.Padding = vg.Points(2)
	return &Figure{ID: id, Title: title, How: how, plot: p, width: 640, height: 320}
}

// bar is a bar of a bar chart: parts on top of each other, and an interval.
type bar struct {
	name      string
	parts     []float64
	low, high float64 // of the end of the last part; equal: no interval
	label     string  // at its end
}

// bars draws horizontal bars, the first on top. On a logarithmic axis they begin
// at the axis.
type bars struct {
	list   []bar
	colors func(bar, part int) color.Color
}

const barHeight = 15 // points

// Plot implements plot.Plotter.
func (b bars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for i, entry := range b.list {
		middle := y(float64(len(b.list) - 1 - i))
		from := p.X.Min
		sum := 0.0
		for k, part := range entry.parts {
			sum += part
			to := min(max(sum, p.X.Min), p.X.Max)
			c.FillPolygon(b.colors(i, k), []vg.Point{
				{X: x(from), Y: middle - barHeight/2}, {X: x(to), Y: middle - barHeight/2},
				{X: x(to), Y: middle + barHeight/2}, {X: x(from), Y: middle + barHeight/2},
			})
			from = to
		}
		end := sum
		if entry.high > entry.low && entry.low > 0 {
			line := draw.LineStyle{Color: ink, Width: 1}
			c.StrokeLine2(line, x(max(entry.low, p.X.Min)), middle, x(entry.high), middle)
			for _, v := range []float64{entry.low, entry.high} {
				c.StrokeLine2(line, x(max(v, p.X.Min)), middle-3, x(max(v, p.X.Min)), middle+3)
			}
			end = max(end, entry.high)
		}
		style := p.X.Tick.Label
		style.XAlign, style.YAlign = draw.XLeft, draw.YCenter
		c.FillText(style, vg.Point{X: x(min(max(end, p.X.Min), p.X.Max)) + 4, Y: middle}, entry.label)
	}
}

// bars adds bars to a figure, and sizes it for them.
func (f *Figure) bars(list []bar, logarithmic bool, colors func(bar, part int) color.Color) {
	if len(list) == 0 {
		return
	}
	low, high := math.Inf(1), 0.0
	names := make([]string, len(list))
	for i, b := range list {
		sum := 0.0
		for _, p := range b.parts {
			sum += p
		}
		if sum > 0 {
			low = min(low, sum)
		}
		high = max(high, sum, b.high)
		names[len(list)-1-i] = b.name
	}
	p := f.plot
	p.Add(bars{list, colors})
	p.NominalY(names...)
	p.Y.Tick.Label.XAlign = draw.XRight
	p.Y.Padding = 18 // where the page has no such font, another may be wider
	p.Y.Min, p.Y.Max = -0.6, float64(len(list))-0.4
	// Room for the labels at the right.
	if logarithmic && high > 0 {
		decades := math.Log10(high/low) + 1
		p.X.Min, p.X.Max = math.Pow(10, math.Floor(math.Log10(low)-0.2)), high*math.Pow(10, decades*0.18)
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, decadeTicks{}
	} else {
		p.X.Min, p.X.Max = 0, max(high, 1e-9)*1.2
	}
	f.height = vg.Length(70 + 22*len(list))
}

// decadeTicks are the powers of ten, with marks between them.
type decadeTicks struct{}

// Ticks implements plot.Ticker.
func (decadeTicks) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	if low <= 0 {
		return ticks
	}
	for decade := math.Floor(math.Log10(low)); decade <= math.Ceil(math.Log10(high)); decade++ {
		base := math.Pow(10, decade)
		for k := 1.0; k < 10; k++ {
			if v := k * base; v >= low*0.999 && v <= high*1.001 {
				label := ""
				if k == 1 {
					label = fmt.Sprintf("%g", base)
				}
				ticks = append(ticks, plot.Tick{Value: v, Label: label})
			}
		}
	}
	return ticks
}

// series is a line of a line chart.
type series struct {
	name   string
	points plotter.XYs
	color  color.Color
	dashed bool
	steps  bool
}

// lines adds lines to a figure; on logarithmic axes where that is asked for.
func (f *Figure) lines(list []series, logX, logY bool) error {
	p := f.plot
	for _, s := range list {
		if len(s.points) == 0 {
			continue
		}
		line, err := plotter.NewLine(s.points)
		if err != nil {
			return fmt.Errorf("figure %s: %s: %w", f.ID, s.name, err)
		}
		line.Color, line.Width = s.color, 1.6
		if s.dashed {
			line.Dashes = []vg.Length{5, 3}
		}
		if s.steps {
			line.StepStyle = plotter.PostStep
		}
		p.Add(line)
		p.Legend.Add(s.name, line)
		if !s.steps {
			dots, err := plotter.NewScatter(s.points)
			if err != nil {
				return fmt.Errorf("figure %s: %s: %w", f.ID, s.name, err)
			}
			dots.Color, dots.Shape, dots.Radius = s.color, draw.CircleGlyph{}, 2
			p.Add(dots)
		}
	}
	logarithmic(&p.X, logX)
	logarithmic(&p.Y, logY)
	f.height = max(f.height, vg.Length(140+13*len(list)))
	longest := 0
	for _, s := range list {
		longest = max(longest, len(s.name))
	}
	f.legend = vg.Length(longest)*5.6 + 34
	return nil
}

func logarithmic(a *plot.Axis, on bool) {
	if !on || a.Min <= 0 || a.Max <= 0 {
		return
	}
	a.Min, a.Max = a.Min*0.8, a.Max*1.25
	a.Scale, a.Tick.Marker = plot.LogScale{}, decadeTicks{}
}

// draw draws the figure: the plot, and right of it the legend.
func (f *Figure) draw(c vg.CanvasSizer) {
	all := draw.New(c)
	if f.legend == 0 {
		f.plot.Draw(all)
		return
	}
	p := *f.plot
	legend := p.Legend
	p.Legend = plot.NewLegend()
	p.Draw(draw.Crop(all, 0, -f.legend, 0, 0))
	legend.Top, legend.Left = true, true
	width := all.Max.X - all.Min.X
	legend.Draw(draw.Crop(all, width-f.legend+8, 0, 0, 0))
}

// SVG is the figure for a page: its ink is the page's colour.
func (f *Figure) SVG() (string, error) {
	c := vgsvg.New(f.width, f.height)
	f.draw(c)
	var out bytes.Buffer
	if _, err := c.WriteTo(&out); err != nil {
		return "", fmt.Errorf("figure %s: %w", f.ID, err)
	}
	_, svg, ok := strings.Cut(out.String(), "<svg")
	if !ok {
		return "", fmt.Errorf("figure %s: nothing was drawn", f.ID)
	}
	// The font that it was laid out with, or others with letters as wide.
	svg = strings.ReplaceAll(svg, "font-family:Liberation Sans", "font-family:Liberation Sans,Arial,Helvetica,sans-serif")
	return "<svg" + svg, nil
}

// inPage makes a figure part of a page.
func inPage(svg, title string) string {
	svg = strings.ReplaceAll(svg, "#222223", "currentColor")
	head, rest, _ := strings.Cut(svg, ">")
	return strings.Replace(head, "<svg", `<svg role="img" aria-label="`+title+`"`, 1) + ">" + rest
}

// PNG is the figure as a picture on white ground, at 144 dots an inch.
func (f *Figure) PNG() ([]byte, error) {
	c := vgimg.NewWith(vgimg.UseWH(f.width, f.height), vgimg.UseDPI(144), vgimg.UseBackgroundColor(color.White))
	f.draw(c)
	var out bytes.Buffer
	if _, err := (vgimg.PngCanvas{Canvas: c}).WriteTo(&out); err != nil {
		return nil, fmt.Errorf("figure %s: %w", f.ID, err)
	}
	return out.Bytes(), nil
}
