package boot

import "testing"

// The handover is the first JMP RAX behind the payload, if it is near.
func TestHandover(t *testing.T) {
	const unpacker = 20 << 20
	for _, tt := range []struct {
		name  string
		entry Entry
		at    uint64 // of the instruction
		want  bool
	}{
		{"behind the payload", Entry{Unpacker: unpacker}, unpacker + 57, true},
		{"at its end", Entry{Unpacker: unpacker}, unpacker, true},
		{"far behind it", Entry{Unpacker: unpacker}, unpacker + handoverSize, false},
		{"in front of it", Entry{Unpacker: unpacker}, unpacker - handoverSize, false},
		{"a kernel that does not unpack itself", Entry{}, unpacker, false},
		{"no memory", Entry{Unpacker: 1 << 40}, unpacker, false},
	} {
		mem := newGuest(t, 32<<20)
		for _, at := range []uint64{tt.at, tt.at + handoverSize/2} {
			if _, err := mem.WriteAt(jumpRAX, int64(at)); err != nil {
				t.Fatal(err)
			}
		}
		at, ok := tt.entry.Handover(mem)
		if ok != tt.want || ok && at != tt.at {
			t.Errorf("%s: %#x, %v; want %#x, %v", tt.name, at, ok, tt.at, tt.want)
		}
	}
}
