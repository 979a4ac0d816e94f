package timeline

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// The picture is XML, has a bar for each phase, and none that leaves it.
func TestSVG(t *testing.T) {
	d := Data{Phases: []PhaseAt{
		{Name: Exec}, {Name: Entered, NS: 4e6}, {Name: StartKernel, NS: 5e6}, {Name: "a <b> & \"c\"", NS: 400e6},
	}}
	var b strings.Builder

	err := d.WriteSVG(&b)

	if err != nil {
		t.Fatal(err)
	}
	bars := 0
	for decoder := xml.NewDecoder(strings.NewReader(b.String())); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in %s", err, b.String())
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "rect" {
			bars++
		}
	}
	if want := len(d.Phases) + 1; bars != want { // and the background
		t.Errorf("%d rectangles; want %d", bars, want)
	}
	if !strings.Contains(b.String(), "400.000 ms") || strings.Contains(b.String(), "<b>") {
		t.Errorf("%s", b.String())
	}
	if err := (Data{}).WriteSVG(io.Discard); err == nil {
		t.Error("nothing is drawn")
	}
}
