package untrusted

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestText(t *testing.T) {
	tests := map[string]string{
		"plain, with ü and 漢": "plain, with ü and 漢",
		"":                    "",
		"\x1b]0;title\a":      `\u001b]0;title\u0007`,
		"a\nvmm: all is well": `a\u000avmm: all is well`,
		"\u009b31m":           `\u009b31m`,
		"\x9b31m":             `\x9b31m`,
		"\x7f\t\r":            `\u007f\u0009\u000d`,
		"abc\u202ecba":        `abc\u202ecba`,
		"\u2028":              `\u2028`,
		"\U000e0041":          `\udb40\udc41`,
		"\ufffd":              "\ufffd",
	}
	for in, want := range tests {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWriter(t *testing.T) {
	var b bytes.Buffer
	text := "name\tä\nesc\x1b[31m bytes\x9b\xff\ufffd\r\n back\r end\u202e"
	n, err := Writer(&b).Write([]byte(text))
	if err != nil || n != len(text) {
		t.Errorf("Write: %d, %v, want %d", n, err, len(text))
	}
	if want := "name\tä\nesc" + `\u001b[31m bytes\x9b\xff` + "\ufffd\r\n back" + `\u000d end\u202e`; b.String() != want {
		t.Errorf("written: %q, want %q", b.String(), want)
	}
}

// What json.Marshal leaves in a string is escaped so that it is still JSON.
func TestWriterKeepsJSON(t *testing.T) {
	want := "\x1b \x7f \u009b \u202e \U000e0041 é"
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := Writer(&b).Write(text); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got != want {
		t.Errorf("%s: %q, %v, want %q", b.Bytes(), got, err, want)
	}
}

func TestClean(t *testing.T) {
	type inner struct{ Name string }
	type outer struct {
		inner
		List  []inner
		Map   map[string]*inner
		Any   any
		Bytes []byte
		N     int
	}
	bad, good := "a\x1bb", `a\u001bb`
	v := outer{inner{bad}, []inner{{bad}}, map[string]*inner{bad: {bad}}, []any{bad}, []byte(bad), 7}
	Clean(&v)
	want := outer{inner{bad}, []inner{{good}}, map[string]*inner{good: {good}}, []any{good}, []byte(bad), 7}
	want.inner = v.inner // embedded, not exported
	if diff := cmp.Diff(want, v, cmp.AllowUnexported(outer{})); diff != "" {
		t.Error(diff)
	}
}

func TestJSONHasLimits(t *testing.T) {
	l := Limits{Bytes: 100, Values: 10}
	tests := map[string]string{
		`[1,2,3]`:                              "",
		`"` + strings.Repeat("x", 200) + `"`:   "larger than 100 bytes",
		`[` + strings.Repeat("{},", 10) + `0]`: "at most 10",
		`[{"a":1}]`:                            "it has 11 values; at most 10",
		`",,,,,,,,,,,,\",,,,,,"`:               "",
		`[1] [2]`:                              "after top-level value",
	}
	for text, want := range tests {
		var v any
		err := JSON(strings.NewReader(text), l, &v)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.30s: %v, want %q", text, err, want)
		}
	}
}
