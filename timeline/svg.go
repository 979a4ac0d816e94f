package timeline

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// Measures of the picture, in pixels.
const (
	svgWidth  = 860
	svgNames  = 190 // the column of names
	svgTimes  = 110 // the column of times, at the right
	svgRow    = 26
	svgTop    = 44
	svgBottom = 30
	svgShort  = 3 // the least width of a bar
)

// svgColors are those of the bars, by who is at work: vmm, the kernel, and programs
// in the guest.
var svgColors = map[Phase]string{
	Exec: "#4c78a8", VMMReady: "#4c78a8", KernelLoaded: "#4c78a8",
	Entered: "#f58518", Unpacked: "#f58518", StartKernel: "#f58518", InitcallsDone: "#f58518",
}

const svgPrograms = "#54a24b"

// WriteSVG draws the timeline as a picture: a bar for each phase, from when it was
// reached to when the next was.
func (d Data) WriteSVG(w io.Writer) error {
	steps := byTime(d.Phases)
	if len(steps) < 2 {
		return fmt.Errorf("a picture takes two phases; this timeline has %d", len(steps))
	}
	last := max(steps[len(steps)-1].NS, 1)
	room := float64(svgWidth - svgNames - svgTimes)
	x := func(ns int64) float64 { return svgNames + float64(ns)/float64(last)*room }
	height := svgTop + svgRow*len(steps) + svgBottom

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13" role="img" aria-label="Timeline of a boot">`+"\n", svgWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", svgWidth, height)
	fmt.Fprintf(&b, `<text x="12" y="26" font-size="15" fill="#222222">From exec of vmm to %s: %s ms</text>`+"\n", escape(string(steps[len(steps)-1].Name)), ms(last))
	for i, p := range steps {
		y := svgTop + svgRow*i
		end := p.NS
		if i+1 < len(steps) {
			end = steps[i+1].NS
		}
		color := svgColors[p.Name]
		if color == "" {
			color = svgPrograms
		}
		fmt.Fprintf(&b, `<text x="12" y="%d" fill="#222222">%s</text>`, y+17, escape(string(p.Name)))
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" rx="2" fill="%s"/>`, x(p.NS), y+4, max(x(end)-x(p.NS), svgShort), svgRow-8, color)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end" fill="#555555">%s ms</text>`+"\n", svgWidth-12, y+17, ms(p.NS))
	}
	fmt.Fprintf(&b, `<text x="12" y="%d" font-size="11" fill="#555555">blue: vmm, orange: the guest's kernel, green: programs in the guest</text>`+"\n</svg>\n", height-10)
	_, err := io.WriteString(w, b.String())
	return err
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
