//go:build amd64 && (solutions || lesson)

package exercise

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestLatch(t *testing.T) {
	l := &Latch{}
	read := func(offset uint64, n int) string {
		data := bytes.Repeat([]byte{0xff}, n)
		l.Read(offset, data)
		return fmt.Sprintf("%x", data)
	}
	l.Write(0, []byte{1, 2, 3, 4})
	l.Write(1, []byte{0xaa, 0xbb})
	l.Write(3, []byte{0xcc, 0xdd})
	l.Write(4, []byte{0xee})
	l.Write(1<<63, []byte{0xee})
	for _, tt := range []struct {
		offset uint64
		n      int
		want   string
	}{{0, 4, "01aabbcc"}, {1, 1, "aa"}, {2, 2, "bbcc"}, {3, 4, "ccffffff"}, {4, 1, "ff"}, {1 << 63, 2, "ffff"}} {
		if got := read(tt.offset, tt.n); got != tt.want {
			t.Errorf("%d bytes at %d: %s; want %s", tt.n, tt.offset, got, tt.want)
		}
	}
}

func TestScreen(t *testing.T) {
	s := &Screen{}
	s.Write(0, []byte("hell"))
	s.Write(4, []byte("o"))
	s.Write(78, []byte("end?"))
	s.Write(80, []byte("x"))
	s.Write(1<<40, []byte("x"))
	if want := "hello" + strings.Repeat(" ", 73) + "en"; s.String() != want {
		t.Errorf("the screen shows %q; want %q", s.String(), want)
	}
	data := make([]byte, 2)
	if s.Read(3, data); string(data) != "lo" {
		t.Errorf("the guest reads %q; want %q", data, "lo")
	}
}
