package kallsyms

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

// pattern fills an image with copies of a piece.
func pattern(size int, piece []byte) []byte { return bytes.Repeat(piece, size/len(piece)) }

// tokenPage is 1 KiB that passes for a token table with its index: tokens of one
// byte, the first of them a type.
func tokenPage() []byte {
	b := []byte{'x', 0}
	for i := 1; i < 256; i++ {
		b = append(b, byte(i), 0)
	}
	for i := range 256 {
		b = le.AppendUint16(b, uint16(2*i))
	}
	return b
}

// tables is an image of n names, each of the same tokens, in front of a token
// table whose token 1 has a text of its own. Whatever the names are, everything
// else is as Linux 6.4 has it.
func tables(n int, tokens []byte, text string) []byte {
	image := le.AppendUint64(nil, uint64(n))
	pad := func() { image = append(image, make([]byte, alignUp(len(image), 8)-len(image))...) }
	start := len(image)
	var markers []byte
	for i := range n {
		if i%256 == 0 {
			markers = le.AppendUint32(markers, uint32(len(image)-start))
		}
		size := len(tokens)
		image = append(append(image, byte(size)|0x80, byte(size>>7)), tokens...)
	}
	pad()
	image = append(image, markers...)
	pad()
	start = len(image)
	var index []byte
	for i := range 256 {
		index = le.AppendUint16(index, uint16(len(image)-start))
		switch {
		case i == 1:
			image = append(image, text...)
		case i > ' ':
			image = append(image, byte(i))
		}
		image = append(image, 0)
	}
	pad()
	image = append(image, index...)
	pad()
	for range n {
		image = le.AppendUint32(image, 4096)
	}
	pad()
	return append(le.AppendUint64(image, testBase), make([]byte, 100)...)
}

// With whatever a guest puts into its memory, a search ends soon, and what it
// finds is not large.
func TestHostile(t *testing.T) {
	names := bytes.Repeat([]byte{'t', 2}, 300)
	for _, c := range []struct {
		name  string
		image []byte
	}{
		{"token tables", pattern(64<<20, tokenPage())},
		{"digits", pattern(64<<20, digits)},
		{"almost digits", pattern(64<<20, digits[:len(digits)-2])},
		{"numbers in front of a token table", append(pattern(16<<20, []byte{0, 2, 0, 0}), tokenPage()...)},
		{"names in front of a token table", append(pattern(16<<20, le.AppendUint32([]byte{0, 2, 0, 0, 0, 0, 0, 0}, 1)), tokenPage()...)},
		{"names that walk", append(pattern(16<<20, append([]byte{0, 4, 0, 0, 0, 0, 0, 0}, names...)), tokenPage()...)},
		{"long texts", tables(100_000, append([]byte{'t'}, bytes.Repeat([]byte{1}, 200)...), strings.Repeat("x", 500))},
		{"long names", tables(100_000, bytes.Repeat([]byte{'t'}, 511), "x")},
		{"a long sum", tables(60_000, []byte{'t', 1}, strings.Repeat("x", 400))},
		{"many tokens without text", tables(2000, append([]byte{'t'}, make([]byte, 16_000)...), "x")},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			table, err := Find(t.Context(), c.image, testBase)
			took := time.Since(start)
			runtime.ReadMemStats(&after)

			if err == nil {
				t.Errorf("%d symbols are found", table.Len())
			}
			if took > 5*time.Second { // of a busy machine; it takes a tenth
				t.Errorf("the search takes %v", took)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 512<<20 {
				t.Errorf("the search allocates %d MiB in all", n>>20)
			}
			t.Logf("%v, %d MiB allocated in all: %v", took, (after.TotalAlloc-before.TotalAlloc)>>20, err)
		})
	}
}

// The largest names that are believed are found, and all of them spelled have a
// bound.
func TestLongestNames(t *testing.T) {
	text := strings.Repeat("x", 510)
	table, err := Find(t.Context(), tables(30_000, []byte{'t', 1}, text), testBase)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for s := range table.All() {
		if s.Name != text {
			t.Fatalf("a name is %q", s.Name)
		}
		sum += len(s.Name)
	}
	if table.Len() != 30_000 || sum > maxText {
		t.Errorf("%d symbols of %d bytes in all", table.Len(), sum)
	}
	// All have one address: the first is found without a walk through them.
	start := time.Now()
	for range 100_000 {
		table.At(testBase + 4096)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("100,000 times At takes %v", took)
	}
}

// A search ends with its context.
func TestFindEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, pattern(64<<20, tokenPage()), testBase); !errors.Is(err, context.Canceled) {
		t.Errorf("Find = %v; want that the context is cancelled", err)
	}
}

// Symbols of an ELF file may share one long text.
func TestELFSharedText(t *testing.T) {
	var symbols []Symbol
	for i := range 200_000 {
		symbols = append(symbols, Symbol{testBase + uint64(i), 'T', ""})
	}
	symbols[0].Name = strings.Repeat("x", 4<<20)
	file := elfFile(symbols)
	// All names begin at 1, where the long one does.
	for i := range symbols {
		le.PutUint32(file[1024+24*(i+1):], 1)
	}
	start := time.Now()
	if table, err := fromELF(file); err == nil {
		t.Errorf("%d symbols", table.Len())
	}
	le.PutUint32(file[1024+24:], 1)
	end := bytes.IndexByte(file, 'x') + 3000
	file[end] = 0 // names of 3000 bytes: 600 MB of them
	if table, err := fromELF(file); err == nil {
		t.Errorf("%d symbols with names of 3000 bytes", table.Len())
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it takes %v", took)
	}
}

// BenchmarkFind finds symbols behind as much code as a distribution's kernel has.
func BenchmarkFind(b *testing.B) {
	const n = 50_000
	for _, l := range layouts {
		code := bytes.Repeat([]byte("\x48\x89\xe5\x00\x10\x00\x00\x00"), 3<<20)
		image := append(code, build(testSymbols(n, l), l)...)
		b.Run(l.version, func(b *testing.B) {
			for range b.N {
				if t, err := Find(b.Context(), image, testBase); err != nil || t.Len() != n {
					b.Fatal(err)
				}
			}
		})
	}
}
