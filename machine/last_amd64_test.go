package machine

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// What a guest did last that says nothing: where it is, what it asked for, and who
// did not answer.
func TestLast(t *testing.T) {
	const base = 0x100_0200
	tests := []struct {
		name string
		code []byte
		want Last
	}{
		{"gives up", []byte{
			0x66, 0xba, 0x01, 0x05, 0xee, 0xee, // mov $0x501, %dx; out %al, (%dx), twice
			0xe4, 0x71, //                         in $0x71, %al
			0xfa, 0xf4, 0xeb, 0xfd, //             cli; 1: hlt; jmp 1b
		}, Last{
			CPUs: []LastCPU{{State: StateDead, Mode: 64, RIP: base + 10, Insn: "jmp 0x1000209",
				Accesses: []string{"1-byte write of port 0x501, 2 times", "1-byte read of port 0x71 (RTC)"}}},
			Unclaimed: []Unclaimed{{"1-byte write of port 0x501", true, 0x501, true, 2}},
		}},
		{"writes to a screen", []byte{
			0xb8, 'H', 0x07, 'i', 0x07, 0xa3, 0xa0, 0x80, 0x0b, 0, 0, 0, 0, 0, // mov $"Hi", %eax; mov %eax, 0xb80a0
			0xeb, 0xfe,
		}, Last{CPUs: []LastCPU{{State: StateRunning, Mode: 64, RIP: base + 14, Insn: "jmp 0x100020e"}}, Screen: []string{"Hi"}}},
		{"spins", []byte{0xeb, 0xfe}, Last{CPUs: []LastCPU{{State: StateRunning, Mode: 64, RIP: base, Insn: "jmp 0x1000200"}}}},
		{"reads memory that is not there", []byte{
			0xb9, 0x00, 0x00, 0x00, 0xc8, // mov $0xc8000000, %ecx
			0x8b, 0x01, //                   mov (%rcx), %eax
			0x0f, 0x0b, //                   ud2
		}, Last{
			CPUs:      []LastCPU{{State: StateCrashed, Mode: 64, RIP: base + 7, Insn: "ud2", Accesses: []string{"4-byte read of memory 0xc8000000"}}},
			Unclaimed: []Unclaimed{{"4-byte read of memory 0xc8000000", false, 0xc800_0000, false, 1}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, tt.code, nil)
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			defer cancel()
			if _, err := m.Run(ctx); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, m.Last(), cmpopts.IgnoreFields(LastCPU{}, "Exits"), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if m.Heard() != 0 {
				t.Errorf("%d bytes came from it", m.Heard())
			}
		})
	}
}

// A processor that the guest has not started is no riddle.
func TestLastOfOtherCPU(t *testing.T) {
	m := newMachine(t, []byte{0xb0, 0x41, 0x66, 0xba, 0xf8, 0x03, 0xee, 0xe6, 0xf4}, func(c *Config) { c.CPUs, c.DebugExit = 2, true })
	if _, err := m.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if last := m.Last(); len(last.CPUs) != 2 || last.CPUs[1].State != StateNotStarted || m.Heard() != 1 {
		t.Errorf("%+v, %d bytes heard", last, m.Heard())
	}
}

// The log's warnings are kept, whoever reads the log, and no more than the last.
func TestWarningsAreKept(t *testing.T) {
	var k kept
	log := slog.New(warnings{Handler: slog.DiscardHandler, kept: &k}).With("device", "virtio-net0")
	log.Info("a feature")
	for i := range maxWarnings + 2 {
		log.Warn("refused", "bit", i)
	}
	all := k.all()
	if len(all) != maxWarnings || all[0] != "refused device=virtio-net0 bit=2" || all[maxWarnings-1] != "refused device=virtio-net0 bit=9" {
		t.Errorf("%q", all)
	}
}

// The accesses of a busy processor: the last ones, the oldest first.
func TestRecent(t *testing.T) {
	var r recent
	if r.last().valid || len(r.oldestFirst()) != 0 {
		t.Errorf("%+v before the first", r)
	}
	for i := range uint64(20) {
		for range i {
			r.add(access{addr: i, valid: true})
		}
	}
	got := r.oldestFirst()
	if len(got) != 8 || got[0].addr != 12 || got[7].addr != 19 || got[7].count != 19 || r.last().addr != 19 {
		t.Errorf("%+v", got)
	}
}
