package devices

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Stateful is a device whose state can be kept, and given to a new device of its kind,
// from which no guest can tell it then.
type Stateful interface {
	// State is all that tells the device from a new one, as plain data for JSON.
	State() any
	// SetState makes the device what State said of another. The data comes from
	// outside: what makes no sense is an error, and then the device must not be
	// used.
	SetState(data json.RawMessage) error
}

// Decode reads a state that State has left: nothing but the fields of v.
func Decode(data json.RawMessage, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("state: something follows it")
	}
	return nil
}
