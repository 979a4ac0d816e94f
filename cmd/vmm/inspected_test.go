package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOutputOf(t *testing.T) {
	for _, tt := range []struct {
		data string
		want output
	}{
		{"", output{7, "", 7}},
		{"aü", output{7, "aü", 10}},
		{"a\xc3", output{7, "a", 8}},                    // ü, when the rest has come
		{"a\xf0\x9f\x98", output{7, "a", 8}},            // likewise
		{"a\xff", output{7, "a\xff", 9}},                // nothing that follows makes it a character
		{"\xc3a", output{7, "\xc3a", 9}},                // likewise
		{"\x80\x80\x80", output{7, "\x80\x80\x80", 10}}, // likewise
	} {
		if diff := cmp.Diff(tt.want, outputOf(7, []byte(tt.data))); diff != "" {
			t.Errorf("%q: %s", tt.data, diff)
		}
	}
}
