package netdev

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCapture(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pcap")
	c, err := NewCapture(path)
	if err != nil {
		t.Fatal(err)
	}
	// In pieces that the header, too, is cut by; the last has bytes that are
	// not of the frame.
	c.Frame([][]byte{make([]byte, 10), {0, 0, 1, 2}, {3, 4, 5, 6}}, HeaderSize, 16)
	c.Frame([][]byte{make([]byte, 10)}, HeaderSize, 10)
	c.Frame([][]byte{make([]byte, 1<<20)}, HeaderSize, 1<<20)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "4d3cb2a1020004000000000000000000000004000100000"; !strings.HasPrefix(hex.EncodeToString(b), want) {
		t.Errorf("file header % x", b[:24])
	}
	if got := hex.EncodeToString(b[24+8 : 24+16+4]); got != "040000000400000001020304" {
		t.Errorf("first frame %s", got)
	}
	if got := hex.EncodeToString(b[44+8 : 44+16]); got != "00000400f4ff0f00" || len(b) != 44+16+256<<10 {
		t.Errorf("second frame %s, file of %d bytes", got, len(b))
	}
}

// A disk that fills up ends the recording, not the machine.
func TestCaptureFull(t *testing.T) {
	c, err := NewCapture("/dev/full")
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("NewCapture: %v, %v", c, err)
	}
	file, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	c = &Capture{file: file}
	c.Frame([][]byte{make([]byte, 100)}, HeaderSize, 100)
	c.Frame([][]byte{make([]byte, 100)}, HeaderSize, 100)
	if err := c.Close(); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("Close: %v", err)
	}
}

// What others make of it, where one of them is there.
func TestCaptureWithTcpdump(t *testing.T) {
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "x.pcap")
	c, err := NewCapture(path)
	if err != nil {
		t.Fatal(err)
	}
	f := make([]byte, HeaderSize+60)
	copy(f[HeaderSize:], "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x09\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01")
	c.Frame([][]byte{f}, HeaderSize, len(f))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tcpdump, "-nr", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "ARP, Request") {
		t.Errorf("tcpdump: %v\n%s", err, out)
	}
}
