package profile

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProfile(t *testing.T) {
	p := New()
	for _, rip := range []uint64{0x1000, 0x1004, 0x1004, 0x5000} {
		p.Add(0, false, rip)
	}
	p.Add(1, true, 0x40_0000)
	p.Add(1, true, 0x40_0008)
	var b bytes.Buffer
	err := p.Write(&b, func(rip uint64) string {
		if rip>>8 == 0x10 {
			return "schedule"
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "vcpu 0;kernel;0x5000 1\nvcpu 0;kernel;schedule 3\nvcpu 1;user mode 2\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	if n := p.Samples(); n != 6 {
		t.Errorf("%d samples; want 6", n)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestWriteFails(t *testing.T) {
	p := New()
	p.Add(0, false, 1)
	if err := p.Write(full{}, func(uint64) string { return "" }); err == nil {
		t.Error("a full disk is not noticed")
	}
}
