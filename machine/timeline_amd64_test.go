package machine

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"vmm/boot"
	"vmm/profile"
	"vmm/timeline"
)

// record runs code with a recorder, and returns what it has recorded.
func record(t *testing.T, code []byte, condition timeline.Condition) timeline.Data {
	t.Helper()
	r := timeline.New(time.Now())
	r.Condition, r.Probes = condition, true
	m := newMachine(t, code, func(c *Config) { c.Timeline, c.DebugExit, c.BootTimer = r, true, true })
	runTo(t, m, 0)
	return r.Data("")
}

func has(d timeline.Data, p timeline.Phase) bool {
	return slices.ContainsFunc(d.Phases, func(a timeline.PhaseAt) bool { return a.Name == p })
}

var endCode = []byte{0xb0, 0x00, 0xe6, 0xf4} // mov $0, %al; out %al, $0xf4

// What vmm does itself is on every timeline; a kernel without symbols says so.
func TestTimelineOfAnyKernel(t *testing.T) {
	d := record(t, endCode, timeline.Condition{})
	for _, p := range []timeline.Phase{timeline.Exec, timeline.KernelLoaded, timeline.Entered} {
		if !has(d, p) {
			t.Errorf("no %q", p)
		}
	}
	if !strings.Contains(d.Note, "no symbols") {
		t.Errorf("note %q; want that there are no symbols", d.Note)
	}
}

// From the kernel, port 0x80 means something only for some values: it is where
// Linux writes anything to pass the time.
func TestMarkers(t *testing.T) {
	ready := uint8(0x55)
	code := append([]byte{
		0xb0, 0x12, 0xe6, 0x80, // mov $0x12, %al; out %al, $0x80
		0xb0, 0x40, 0xe6, 0x80,
		0xb0, 0x55, 0xe6, 0x80,
		0xb0, 0x41, 0xe6, 0x80,
		0xb9, 0x00, 0x00, 0x00, 0xc0, // mov $0xc0000000, %ecx
		0xc6, 0x01, 122, //              movb $122, (%rcx): nothing
		0xc6, 0x01, 123, //              movb $123, (%rcx): booted
	}, endCode...)

	d := record(t, code, timeline.Condition{Marker: &ready})

	var values []uint32
	for _, m := range d.Markers {
		values = append(values, m.Value)
		if m.User {
			t.Errorf("%+v comes from the kernel", m)
		}
	}
	if !slices.Equal(values, []uint32{0x40, 0x55, 0x41}) {
		t.Errorf("markers %#x; want 0x40, 0x55, 0x41", values)
	}
	if !has(d, timeline.Ready) || !has(d, timeline.BootTimer) || has(d, timeline.InitMarker) {
		t.Errorf("phases %+v; want ready and boot timer, and no init", d.Phases)
	}
}

// A kernel that unpacks itself is met where it jumps to what it has unpacked,
// though that code has moved.
func TestHandover(t *testing.T) {
	const kernel = 0x20_0000
	// At the entry: copy 16 bytes from behind the payload to moved, with RAX
	// where the kernel is to be, and jump there.
	entry := []byte{
		0x48, 0x8d, 0x35, 0xf9, 0x00, 0x00, 0x00, // lea 0x300-0x207(%rip), %rsi
		0xbf, 0x00, 0x80, 0x00, 0x00, //             mov $moved, %edi
		0xb9, 0x10, 0x00, 0x00, 0x00, //             mov $16, %ecx
		0xf3, 0xa4, //                               rep movsb
		0xb8, 0x00, 0x00, 0x20, 0x00, //             mov $kernel, %eax
		0xbb, 0x00, 0x80, 0x00, 0x00, //             mov $moved, %ebx
		0xff, 0xe3, //                               jmp *%rbx
	}
	code := append(entry, make([]byte, 0x100-len(entry))...)
	code = append(code, 0x90, 0x90, 0xff, 0xe0) // nop; nop; jmp *%rax
	path := kernelFile(t, code)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The payload, as the header has it: up to 0x100 behind the entry.
	binary.LittleEndian.PutUint32(file[0x248:], 0x200)
	binary.LittleEndian.PutUint32(file[0x24c:], 0x100)
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	r := timeline.New(time.Now())
	r.Probes = true
	m := newMachine(t, nil, func(c *Config) {
		c.Kernel, c.Protocol, c.Timeline, c.DebugExit = path, boot.Linux64, r, true
	})
	if _, err := m.memory.WriteAt(endCode, kernel); err != nil {
		t.Fatal(err)
	}

	runTo(t, m, 0)

	d := r.Data("")
	if !has(d, timeline.Unpacked) {
		t.Errorf("phases %+v; want that it is unpacked", d.Phases)
	}
	if !strings.Contains(d.Note, "no symbols") {
		t.Errorf("note %q; want that there are no symbols", d.Note)
	}
}

// A profile shows where the guest spends its time.
func TestProfile(t *testing.T) {
	p := &Profile{Profile: profile.New(), Rate: 500}
	m := newMachine(t, []byte{0xeb, 0xfe}, func(c *Config) { c.Profile, c.CPUs = p, 2 })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	go func() {
		for p.Samples() < 20 && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()

	if o, err := m.Run(ctx); err != nil || o.Kind != Stopped {
		t.Fatalf("Run = %v, %v", o.Kind, err)
	}

	var b bytes.Buffer
	if err := p.Write(&b, func(uint64) string { return "" }); err != nil {
		t.Fatal(err)
	}
	// The second processor was never started.
	if lines := strings.Split(strings.TrimSpace(b.String()), "\n"); len(lines) != 1 || !strings.HasPrefix(lines[0], "vcpu 0;kernel;0x1000200 ") {
		t.Errorf("the profile is %q; want one place, 0x1000200", &b)
	}
	if n := p.Samples(); n < 20 {
		t.Errorf("%d samples in 20 s; want 500 a second", n)
	}
	if _, err := m.KernelSymbols(t.Context()); err == nil {
		t.Error("a kernel without symbols has some")
	}
}
