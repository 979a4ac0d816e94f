package untrusted

import (
	"encoding/json"
	"fmt"
	"io"
)

// Limits are what a document may have at the most.
type Limits struct {
	Bytes  int64
	Values int // elements and fields, and objectValues for each object: a short text can describe much
}

// objectValues is what an object counts, beside its fields. What is made of an empty
// one is a structure with room for all that it could have.
const objectValues = 8

// JSON decodes a document that is within limits. What is behind it is an error.
func JSON(r io.Reader, l Limits, v any) error {
	text, err := ReadAll(r, l.Bytes)
	if err != nil {
		return err
	}
	return Unmarshal(text, l.Values, v)
}

// ReadAll reads to the end, which has to come within limit bytes.
func ReadAll(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("it is larger than %d bytes, more than is read", limit)
	}
	return text, err
}

// Unmarshal is json.Unmarshal of a document with so many values at the most.
func Unmarshal(text []byte, values int, v any) error {
	if n := count(text); n > values {
		return fmt.Errorf("it has %d values; at most %d are read", n, values)
	}
	return json.Unmarshal(text, v)
}

// count is how many values a document has, at the least: each but the first of a
// list or object is behind a comma.
func count(text []byte) int {
	n, quoted := 1, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case !quoted && (c == ',' || c == '{' || c == '['):
			n++
			if c == '{' {
				n += objectValues
			}
		}
	}
	return n
}
