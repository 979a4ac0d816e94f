package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// qemuImg runs qemu-img.
func qemuImg(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, out)
	}
}

// contents are those of a disk: random, repeating and zero parts, of a length that
// is no multiple of most clusters.
func contents() []byte {
	b := make([]byte, 4<<20+3*512)
	random := rand.NewChaCha8([32]byte{7})
	for at := 0; at < len(b); at += 37 << 10 {
		part := b[at:min(at+37<<10, len(b))]
		switch at / (37 << 10) % 4 {
		case 0:
			_, _ = random.Read(part)
		case 1, 3:
			for i := range part {
				part[i] = byte(i*i>>9) | 1
			}
		}
	}
	return b
}

// convert makes an image with contents.
func convert(t testing.TB, source, options string, compress bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	args := []string{"convert", "-t", "unsafe", "-f", "raw", "-O", "qcow2", "-o", options}
	if compress {
		args = append(args, "-c")
	}
	qemuImg(t, append(args, source, path)...)
	return path
}

func writeFile(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// open opens an image that is right.
func open(t testing.TB, path string) *Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(im.Close)
	return im
}

// compare reads an image in pieces of several sizes and compares it with what the
// disk is to hold.
func compare(t *testing.T, im *Image, want []byte) {
	t.Helper()
	if im.Size() != int64(len(want)) {
		t.Fatalf("a disk of %d bytes; want %d", im.Size(), len(want))
	}
	got := make([]byte, len(want))
	for _, piece := range []int{len(want), 4096, 65 * 512} {
		for i := range got {
			got[i] = 0xee
		}
		for at := 0; at < len(want); at += piece {
			end := min(at+piece, len(want))
			if _, err := im.ReadAt(got[at:end], int64(at)); err != nil {
				t.Fatalf("reading %d bytes at %d: %v", end-at, at, err)
			}
			if !bytes.Equal(got[at:end], want[at:end]) {
				t.Fatalf("something else was read, %d bytes at %d", end-at, at)
			}
		}
	}
}

// Every cluster size in every version, with every compression, with and without
// subclusters, reads as what went in, block by block; each width of reference counts
// occurs with each of these.
func TestMatrix(t *testing.T) {
	want := contents()
	source := writeFile(t, want)
	turn := 0
	for clusterBits := minClusterBits; clusterBits <= maxClusterBits; clusterBits++ {
		for _, version := range []string{"0.10", "1.1"} {
			for _, compression := range []string{"none", "zlib", "zstd"} {
				for _, extended := range []bool{false, true} {
					if version == "0.10" && (compression == "zstd" || extended) || extended && clusterBits < minExtendedBits {
						continue // the format does not have it
					}
					options := fmt.Sprintf("compat=%s,cluster_size=%d", version, 1<<clusterBits)
					if version == "1.1" {
						options += fmt.Sprintf(",refcount_bits=%d", 1<<(turn%(maxRefcountOrder+1)))
						turn++
						if turn%3 == 0 {
							options += ",lazy_refcounts=on"
						}
					}
					if compression != "none" && version == "1.1" {
						options += ",compression_type=" + compression
					}
					if extended {
						options += ",extended_l2=on"
					}
					t.Run(fmt.Sprintf("%s,%s", options, compression), func(t *testing.T) {
						t.Parallel()
						compare(t, open(t, convert(t, source, options, compression != "none")), want)
					})
				}
			}
		}
	}
}

// Images that have been written to, discarded, enlarged and had snapshots taken read
// as what qemu-img makes of them.
func TestLivedIn(t *testing.T) {
	source := writeFile(t, contents())
	for _, options := range []string{
		"compat=0.10", "compat=1.1", "cluster_size=512", "cluster_size=2M", "extended_l2=on,cluster_size=16k", "extended_l2=on,cluster_size=2M",
		"compat=1.1,preallocation=metadata", "compat=1.1,preallocation=falloc", "extended_l2=on,preallocation=metadata",
	} {
		for _, compress := range []bool{false, true} {
			if compress && strings.Contains(options, "preallocation") {
				continue
			}
			t.Run(fmt.Sprintf("%s,%v", options, compress), func(t *testing.T) {
				t.Parallel()
				path := convert(t, source, options, compress)
				out, err := exec.Command("qemu-io", "-f", "qcow2",
					"-c", "write -P 0xaa 4096 512", "-c", "write -P 0xab 300000 70000", "-c", "write -z 1M 128k", "-c", "write -zu 1200k 64k",
					"-c", "discard 2M 256k", "-c", "write -P 0xac 2100k 1k", "-c", "truncate 9M", "-c", "write -P 0xad 8M 512", "-c", "write -z 8300k 8k",
					path).CombinedOutput()
				if err != nil || bytes.Contains(out, []byte("ailed")) && !strings.Contains(options, "0.10") {
					t.Fatalf("qemu-io: %v\n%s", err, out)
				}
				qemuImg(t, "snapshot", "-c", "one", path)
				if out, err := exec.Command("qemu-io", "-f", "qcow2", "-c", "write -P 0xae 5000 9000", path).CombinedOutput(); err != nil {
					t.Fatalf("qemu-io: %v\n%s", err, out)
				}
				plain := filepath.Join(t.TempDir(), "plain")
				qemuImg(t, "convert", "-f", "qcow2", "-O", "raw", path, plain)
				want, err := os.ReadFile(plain)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, open(t, path), want)
			})
		}
	}
}

// An image that has been cut short gives the right bytes or an error: never zeros in
// their place.
func TestCutShort(t *testing.T) {
	want := contents()
	source := writeFile(t, want)
	for _, options := range []string{"cluster_size=512", "cluster_size=64k", "extended_l2=on,cluster_size=64k", "compression_type=zstd"} {
		for _, compress := range []bool{false, true} {
			whole, err := os.ReadFile(convert(t, source, options, compress))
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range []int{3, 2, 1} {
				short := whole[:len(whole)-len(whole)*part/4-1]
				im, err := Open(bytes.NewReader(short), int64(len(short)))
				if err != nil {
					continue // its first table is missing
				}
				failed := 0
				got := make([]byte, 512)
				for at := 0; at < len(want); at += len(got) {
					if _, err := im.ReadAt(got, int64(at)); err != nil {
						failed++
					} else if !bytes.Equal(got, want[at:at+len(got)]) {
						t.Fatalf("%s, compressed %v, without %d/4: something else at %d", options, compress, part, at)
					}
				}
				if failed == 0 {
					t.Errorf("%s, compressed %v, without %d/4: no error", options, compress, part)
				}
				im.Close()
			}
		}
	}
}

// empty is an image of a disk of 1 MiB with nothing in it.
func empty(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	qemuImg(t, "create", "-q", "-f", "qcow2", path, "1M")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// endless is a file as long as one likes, behind its beginning.
type endless struct{ begin []byte }

func (e endless) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(e.begin)) {
		copy(p, e.begin[off:])
	}
	return len(p), nil
}

// Each field of the header has its bounds, whatever the size of the file, and none
// is believed before it has been checked: opening takes next to no memory.
func TestHeader(t *testing.T) {
	good := empty(t)
	be := binary.BigEndian
	u32 := func(at int, v uint32) func([]byte) { return func(b []byte) { be.PutUint32(b[at:], v) } }
	u64 := func(at int, v uint64) func([]byte) { return func(b []byte) { be.PutUint64(b[at:], v) } }
	for _, tt := range []struct {
		name string
		edit func([]byte)
		want string
	}{
		{"magic", u32(0, 0), "not a qcow2 image"},
		{"version 1", u32(4, 1), "version 1"},
		{"version 4", u32(4, 4), "version 4"},
		{"backing file", u64(8, 500), "based on another image"},
		{"clusters of 2^8", u32(20, 8), "clusters of 2^8"},
		{"clusters of 2^22", u32(20, 22), "clusters of 2^22"},
		{"clusters of 2^64", u32(20, 64), "clusters of 2^64"},
		{"size 2^63", u64(24, 1<<63), "a disk of 9223372036854775808 bytes"},
		{"size 2^64-1", u64(24, 1<<64-1), "a disk of"},
		{"size 2^63-512", u64(24, 1<<63-512), "that it may have"},
		{"encrypted", u32(32, 1), "encrypted"},
		{"a first table of 2^32-1", u32(36, 1<<32-1), "that it may have"},
		{"a first table that is too short", u32(36, 0), "needs 1"},
		{"a disk larger than its first table", u64(24, 1<<40), "needs 2048"},
		{"a first table inside a cluster", u64(40, 65544), "inside a cluster"},
		{"a first table far outside", u64(40, 1<<63), "outside the file"},
		{"a first table at the end", u64(40, 1<<62), "outside the file"},
		{"a data file", u64(72, 1<<2), "another file"},
		{"an unknown feature", u64(72, 1<<40|1<<5), "bit 5, bit 40"},
		{"a compression feature without the type", u64(72, 1<<3), "compression type 0"},
		{"subclusters in small clusters", func(b []byte) { u64(72, 1<<4)(b); u32(20, 13)(b); u32(36, 64)(b) }, "subclusters"},
		{"reference counts of 2^7 bits", u32(96, 7), "reference counts"},
		{"a short header", u32(100, 96), "a header of 96 bytes"},
		{"an odd header", u32(100, 107), "a header of 107 bytes"},
		{"a long header", u32(100, 1<<31), "a header of 2147483648 bytes"},
		{"another compression", func(b []byte) { u64(72, 1<<3)(b); b[104] = 2 }, "compression type 2"},
		{"a compression type without the feature", func(b []byte) { b[104] = 1 }, "compression type 1"},
	} {
		b := bytes.Clone(good)
		tt.edit(b)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		im, err := Open(endless{b}, 1<<61)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, %v; want %q", tt.name, im, err, tt.want)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<10 {
			t.Errorf("%s: %d bytes of memory", tt.name, grown)
		}
	}
	for n := range 1000 {
		if _, err := Open(bytes.NewReader(good[:n]), int64(n)); err == nil {
			t.Errorf("the first %d bytes are enough", n)
		}
	}
	// Dirty and damaged images may be read, as QEMU has it.
	b := bytes.Clone(good)
	be.PutUint64(b[72:], 3)
	if _, err := Open(bytes.NewReader(b), int64(len(b))); err != nil {
		t.Error(err)
	}
}

// Entries that cannot be right are errors, and no bytes.
func TestEntries(t *testing.T) {
	path := convert(t, writeFile(t, contents()), "compat=1.1,cluster_size=64k", false)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	l1 := be.Uint64(good[40:])
	l2 := be.Uint64(good[l1:]) & entryOffset
	for name, edit := range map[string]func([]byte){
		"second table inside a cluster":   func(b []byte) { b[l1+6] |= 2 },
		"second table outside the file":   func(b []byte) { be.PutUint64(b[l1:], 1<<55) },
		"cluster inside another":          func(b []byte) { b[l2+6] |= 2 },
		"cluster outside the file":        func(b []byte) { be.PutUint64(b[l2:], 1<<55) },
		"compressed, but what is there":   func(b []byte) { b[l2] |= 0x40 },
		"compressed outside the file":     func(b []byte) { be.PutUint64(b[l2:], 1<<62|1<<50) },
		"compressed at the largest place": func(b []byte) { be.PutUint64(b[l2:], 1<<63-1) },
	} {
		b := bytes.Clone(good)
		edit(b)
		im, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n, err := im.ReadAt(make([]byte, 4096), 0); err == nil || n != 0 {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
	// Version 2 has no clusters of zeros.
	good, err = os.ReadFile(convert(t, writeFile(t, contents()), "compat=0.10,cluster_size=64k", false))
	if err != nil {
		t.Fatal(err)
	}
	l2 = be.Uint64(good[be.Uint64(good[40:]):]) & entryOffset
	good[l2+7] |= 1
	im, err := Open(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := im.ReadAt(make([]byte, 512), 0); err == nil {
		t.Error("a cluster of zeros in version 2 is read")
	}
}

func TestEnd(t *testing.T) {
	b := empty(t)
	im, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1024)
	for off, want := range map[int64]int{1<<20 - 512: 512, 1 << 20: 0, 1 << 40: 0, -1: 0} {
		if n, err := im.ReadAt(p, off); n != want || err != io.EOF {
			t.Errorf("at %d: %d bytes, %v", off, n, err)
		}
	}
}

func FuzzImage(f *testing.F) {
	source := writeFile(f, bytes.Repeat([]byte("fuzz"), 5000))
	for _, options := range []string{"cluster_size=512", "compat=0.10,cluster_size=512", "extended_l2=on,cluster_size=16k", "cluster_size=512,compression_type=zstd"} {
		for _, compress := range []bool{false, true} {
			b, err := os.ReadFile(convert(f, source, options, compress))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b[:min(len(b), 8192)], uint64(0))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint64) {
		im, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		defer im.Close()
		if im.Size() == 0 {
			return
		}
		p := make([]byte, 3000)
		for _, off := range []int64{0, int64(at % uint64(im.Size())), im.Size() - 1} {
			n, err := im.ReadAt(p, off)
			if n < len(p) && err == nil {
				t.Errorf("%d bytes at %d, and no error", n, off)
			}
		}
	})
}

// The cost of reading a megabyte.
func BenchmarkRead(b *testing.B) {
	for name, options := range map[string]string{"plain": "", "zlib": "compression_type=zlib", "zstd": "compression_type=zstd"} {
		b.Run(name, func(b *testing.B) {
			im := open(b, convert(b, writeFile(b, contents()), strings.TrimSuffix("compat=1.1,"+options, ","), options != ""))
			p := make([]byte, 1<<20)
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for i := int64(0); b.Loop(); i++ {
				if _, err := im.ReadAt(p, i%4<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
