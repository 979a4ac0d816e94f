package trace

import (
	"bytes"
	"io"
)

// Output is a Sink that writes a trace. When it cannot be written any further,
// it says so once, and takes no more.
type Output struct {
	w       io.Writer
	encoder *Encoder
	filter  Filter
	failed  func(error)
	events  *Interpreter
	buf     bytes.Buffer
	dead    bool
}

// NewOutput returns an Output to w. symbols may be nil. failed is called, by the
// Recorder's goroutine, with the error that ends it.
func NewOutput(w io.Writer, format Format, filter Filter, symbols Symbols, failed func(error)) *Output {
	return &Output{w: w, encoder: NewEncoder(format), filter: filter, failed: failed, events: NewInterpreter(symbols)}
}

var _ Sink = (*Output)(nil)

// Record implements Sink.
func (o *Output) Record(r *Record) {
	if o.dead {
		return
	}
	e := o.events.Event(r)
	if !o.filter.Match(&e) {
		return
	}
	if err := o.encoder.Append(&o.buf, &e); err != nil {
		o.fail(err)
	}
	if o.buf.Len() >= 64<<10 {
		o.Flush()
	}
}

// Flush implements Sink.
func (o *Output) Flush() {
	if o.dead || o.buf.Len() == 0 {
		return
	}
	if _, err := o.buf.WriteTo(o.w); err != nil {
		o.fail(err)
	}
	o.buf.Reset()
}

func (o *Output) fail(err error) {
	o.dead = true
	o.failed(err)
}

// End writes what comes after the last event. No Record comes after it, nor
// beside it.
func (o *Output) End() {
	if !o.dead {
		o.encoder.End(&o.buf)
		o.Flush()
	}
}
