package machine

import (
	"os"
	"strings"
	"testing"
)

// What can be looked at of a guest that is paused before its first instruction.
func TestLook(t *testing.T) {
	m := newMachine(t, loop, func(c *Config) { c.CPUs = 2; c.RNG, c.Transport = true, TransportMMIO })
	m.Pause()
	end := start(t, m)
	defer end()

	p, err := m.Processor(0)
	must(t, err)
	if p.State != running || p.Bits != 64 || p.Privilege != 0 || p.Next != entryAddr {
		t.Errorf("vCPU 0: %+v", p)
	}
	values := map[string]RegisterValue{}
	for _, r := range p.Registers {
		values[r.Name] = r
	}
	if r := values["rip"]; r.Value != entryAddr || r.Bits != 64 {
		t.Errorf("%+v", r)
	}
	if r := values["cr0"]; !strings.Contains(r.Flags, "PE") || !strings.Contains(r.Flags, "PG") {
		t.Errorf("%+v", r)
	}
	if p.Segments[0].Name != "cs" || p.Segments[0].Meaning != "code, 64-bit, privilege 0" {
		t.Errorf("%+v", p.Segments[0])
	}
	if p, err := m.Processor(1); err != nil || p.State != "not started" || p.Bits != 16 {
		t.Errorf("vCPU 1: %+v, %v", p, err)
	}

	code := make([]byte, len(loop))
	if n, err := m.ReadLinear(0, entryAddr, code); n != len(loop) || err != nil || string(code) != string(loop) {
		t.Errorf("% x, %v", code, err)
	}
	if err := m.ReadPhysical(1<<40, code); err == nil {
		t.Error("there is memory at 1 TiB")
	}

	all, err := m.Devices(1)
	must(t, err)
	shown := map[string]map[string]ShownRegister{}
	for _, d := range all {
		if shown[d.Name] != nil {
			t.Errorf("%s is there twice", d.Name)
		}
		shown[d.Name] = map[string]ShownRegister{}
		for _, r := range d.Registers {
			shown[d.Name][r.Name] = r
		}
	}
	for _, want := range []struct{ device, register, meaning string }{
		{"COM1", "LSR", "THRE TEMT"},
		{"COM1", "IIR", "none"},
		{"i8042", "status", "system unlocked"},
		{"RTC", "register B", "24-hour"},
		{"virtio-rng0", "Status", "reset"},
		{"virtio-rng0", "DeviceID", "rng"},
		{"local APIC of vCPU 1", "ID", "1"},
		{"local APIC of vCPU 1", "IRR", "vectors: none"},
		{"PIC, master", "ISR", ""},
	} {
		if r, ok := shown[want.device][want.register]; !ok || r.Meaning != want.meaning {
			t.Errorf("%s %s: %+v; want %q", want.device, want.register, r, want.meaning)
		}
	}
	if r := shown["I/O APIC"]["input 4"]; !strings.Contains(r.Meaning, "masked") {
		t.Errorf("input 4: %+v", r)
	}
	if shown["PIT"] != nil {
		t.Error("there is a PIT that nobody has asked for")
	}

	if _, err := m.Rings("virtio-rng0", 0); err == nil {
		t.Error("a queue that nobody has set up is shown")
	}
	if _, err := m.Rings("virtio-none", 0); err == nil {
		t.Error("a device that is not there is shown")
	}
	pagemap, err := os.Open("/proc/self/pagemap")
	must(t, err)
	defer pagemap.Close()
	ram, err := m.Touched(pagemap)
	must(t, err)
	if len(ram) != 1 || ram[0].Size != 64<<20 || ram[0].Touched == 0 || ram[0].Touched >= ram[0].Size || len(ram[0].Contents) == 0 {
		t.Errorf("%+v", ram)
	}
	var sum uint64
	for _, n := range ram[0].Cells {
		sum += n
	}
	if sum != ram[0].Touched {
		t.Errorf("cells of %d bytes, of %d that were touched", sum, ram[0].Touched)
	}
}
