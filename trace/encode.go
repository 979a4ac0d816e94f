package trace

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Format is how events are written.
type Format string

// The formats.
const (
	Text  Format = "text"  // a line an event, for people
	JSONL Format = "jsonl" // an Event in JSON a line
	// Chrome is the Trace Event Format, for Perfetto (ui.perfetto.dev) and
	// Chrome's about:tracing.
	Chrome Format = "chrome"
)

// Formats are all formats.
var Formats = []Format{Text, JSONL, Chrome}

// Encoder turns events into bytes of a format. It is used by one goroutine.
type Encoder struct {
	format Format
	chrome chrome
	json   *json.Encoder
	to     *bytes.Buffer // of json
}

// NewEncoder returns an Encoder.
func NewEncoder(f Format) *Encoder { return &Encoder{format: f} }

// Append adds an event to b.
func (e *Encoder) Append(b *bytes.Buffer, event *Event) error {
	switch e.format {
	case Text:
		appendText(b, event)
		return nil
	case Chrome:
		return e.chrome.append(b, event)
	case JSONL:
		if e.to != b {
			e.to, e.json = b, json.NewEncoder(b)
			e.json.SetEscapeHTML(false)
		}
		return e.json.Encode(event)
	}
	return fmt.Errorf("trace: no format %q", e.format)
}

// End adds what comes after the last event.
func (e *Encoder) End(b *bytes.Buffer) {
	if e.format == Chrome {
		e.chrome.end(b)
	}
}
