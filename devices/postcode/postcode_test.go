package postcode

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func last(p *Port) byte {
	data := []byte{0xff}
	p.Read(0, data)
	return data[0]
}

func TestCodes(t *testing.T) {
	var got []byte
	p := New(func(code byte) { got = append(got, code) })
	if v := last(p); v != 0 {
		t.Errorf("before the first code the port reads as %#x; want 0", v)
	}
	want := []byte{0x01, 0xff, 0x01}
	for _, code := range want {
		p.Write(0, []byte{code})
		if v := last(p); v != code {
			t.Errorf("after %#x the port reads as %#x", code, v)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNobodyIsTold(t *testing.T) {
	p := New(nil)
	p.Write(0, []byte{0x42})
	if v := last(p); v != 0x42 {
		t.Errorf("the port reads as %#x; want 0x42", v)
	}
}
