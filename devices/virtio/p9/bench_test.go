package p9_test

import (
	"os"
	"path/filepath"
	"testing"

	"vmm/devices/virtio/virtiotest"
)

// Kinds of messages.
const (
	tLopen   = 12
	tGetattr = 24
	tVersion = 100
	tAttach  = 104
	tWalk    = 110
	tRead    = 116
	tWrite   = 118
	tClunk   = 120
)

const benchMsize = 1 << 20

// mounted is a driver that has attached fid 0 to a folder, which has a file
// "file" of 64 MiB.
func mounted(b *testing.B) *virtiotest.Driver {
	b.Helper()
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 64<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	d := start(b, server(b, dir))
	version := le.AppendUint32(nil, benchMsize)
	version = append(le.AppendUint16(version, 8), "9P2000.L"...)
	exchange(b, d, message(tVersion, 0xffff, string(version)))
	exchange(b, d, message(tAttach, 1, "\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"))
	return d
}

// exchange sends a message to which the answer must be its own.
func exchange(b *testing.B, d *virtiotest.Driver, m []byte) {
	b.Helper()
	in := d.In(200)
	if d.Do(0, d.Out(m), in); in.Data[4] != m[4]+1 {
		b.Fatalf("the answer to message %d: % x", m[4], in.Data[:20])
	}
}

// words are integers of 32 bits, one behind the other.
func words(all ...uint32) string {
	var b []byte
	for _, w := range all {
		b = le.AppendUint32(b, w)
	}
	return string(b)
}

// walkTo is a Twalk from fid 0 to "file".
func walkTo(fid uint32) []byte {
	return message(tWalk, 1, words(0, fid)+"\x01\x00\x04\x00file")
}

func BenchmarkTransfer(b *testing.B) {
	for _, bench := range []struct {
		name  string
		kind  byte
		chunk int
	}{
		{"read/1M", tRead, benchMsize - 24}, {"read/4K", tRead, 4096},
		{"write/1M", tWrite, benchMsize - 24}, {"write/4K", tWrite, 4096},
	} {
		b.Run(bench.name, func(b *testing.B) {
			d := mounted(b)
			exchange(b, d, walkTo(1))
			exchange(b, d, message(tLopen, 1, words(1, 2)))
			body := words(1, 0, 0, uint32(bench.chunk))
			out, in := d.Out(message(bench.kind, 1, body)), d.In(11)
			buffers := []virtiotest.Buffer{out, in}
			if bench.kind == tRead {
				buffers = append(buffers, d.In(bench.chunk))
			} else {
				data := d.Out(make([]byte, bench.chunk))
				le.PutUint32(out.Data, uint32(len(out.Data)+bench.chunk))
				buffers = []virtiotest.Buffer{out, data, in}
			}
			b.SetBytes(int64(bench.chunk))
			b.ReportAllocs()
			offset := 0
			for b.Loop() {
				le.PutUint64(out.Data[11:], uint64(offset))
				d.Do(0, buffers...)
				if offset += bench.chunk; offset+bench.chunk > 64<<20 {
					offset = 0
				}
			}
			if in.Data[4] != bench.kind+1 || int(le.Uint32(in.Data[7:])) != bench.chunk {
				b.Errorf("the answer: % x", in.Data)
			}
		})
	}
}

// What a guest without a cache does for one stat(2), and to open and close a file.
func BenchmarkMetadata(b *testing.B) {
	getattr := message(tGetattr, 1, words(1, 0x7ff, 0))
	clunk := message(tClunk, 1, words(1))
	for _, bench := range []struct {
		name     string
		messages [][]byte
	}{
		{"getattr", [][]byte{message(tGetattr, 1, words(0, 0x7ff, 0))}},
		{"stat", [][]byte{walkTo(1), getattr, clunk}},
		{"open", [][]byte{walkTo(1), message(tLopen, 1, words(1, 0)), clunk}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			d := mounted(b)
			in := d.In(200)
			var out []virtiotest.Buffer
			for _, m := range bench.messages {
				out = append(out, d.Out(m))
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, m := range out {
					if d.Do(0, m, in); in.Data[4] != m.Data[4]+1 {
						b.Fatalf("the answer to message %d: % x", m.Data[4], in.Data[:20])
					}
				}
			}
		})
	}
}

// Many requests at once: 16 reads of 64 KiB, in any order.
func BenchmarkDepth(b *testing.B) {
	const depth, chunk = 16, 64 << 10
	d := mounted(b)
	exchange(b, d, walkTo(1))
	exchange(b, d, message(tLopen, 1, words(1, 0)))
	var out, in []virtiotest.Buffer
	for i := range depth {
		out = append(out, d.Out(message(tRead, uint16(i), words(1, uint32(i*chunk), 0, chunk))))
		in = append(in, d.In(11+chunk))
	}
	b.SetBytes(depth * chunk)
	b.ReportAllocs()
	for b.Loop() {
		for i := range depth {
			d.Rings[0].Add(out[i], in[i])
		}
		d.Kick(0)
		for range depth {
			if _, n := d.Wait(0); n != 11+chunk {
				b.Fatalf("an answer of %d bytes", n)
			}
		}
	}
}
