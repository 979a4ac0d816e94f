package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmm/kvm"
	"vmm/snapshot"
)

// counts counts in RBX and in memory, both, until somebody writes to the word behind:
// then it compares what it has in registers and memory, and says whether they agree.
var counts = []byte{
	0x0f, 0x20, 0xe1, // mov %cr4, %rcx
	0x81, 0xc9, 0x00, 0x02, 0x00, 0x00, // or $OSFXSR, %ecx
	0x0f, 0x22, 0xe1, // mov %rcx, %cr4
	0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, // movabs $0x1122334455667788, %rax
	0x48, 0x89, 0x04, 0x25, 0x10, 0x00, 0x30, 0x00, // mov %rax, 0x300010
	0x48, 0x89, 0x04, 0x25, 0x18, 0x00, 0x30, 0x00, // mov %rax, 0x300018
	0x0f, 0x10, 0x1c, 0x25, 0x10, 0x00, 0x30, 0x00, // movups 0x300010, %xmm3
	0x31, 0xdb, // xor %ebx, %ebx
	0x48, 0xff, 0xc3, // 1: inc %rbx
	0x48, 0x89, 0x1c, 0x25, 0x00, 0x00, 0x30, 0x00, // mov %rbx, 0x300000
	0x83, 0x3c, 0x25, 0x08, 0x00, 0x30, 0x00, 0x00, // cmpl $0, 0x300008
	0x74, 0xeb, // je 1b
	0x0f, 0x11, 0x1c, 0x25, 0x20, 0x00, 0x30, 0x00, // movups %xmm3, 0x300020
	0x48, 0x8b, 0x0c, 0x25, 0x20, 0x00, 0x30, 0x00, // mov 0x300020, %rcx
	0x48, 0x39, 0xc8, // cmp %rcx, %rax
	0x75, 0x0e, // jne 2f
	0x48, 0x3b, 0x1c, 0x25, 0x00, 0x00, 0x30, 0x00, // cmp 0x300000, %rbx
	0x75, 0x04, // jne 2f
	0xb0, passed, // mov $passed, %al
	0xe6, 0xf4, // out %al, $0xf4
	0xb0, 0x11, // 2: mov $0x11, %al
	0xe6, 0xf4, // out %al, $0xf4
}

const countAddr, doneAddr = 0x30_0000, 0x30_0008

// inBackground runs a machine in the background; the function waits for how it ended.
func inBackground(t testing.TB, m *Machine) (wait func() Outcome) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	done := make(chan Outcome, 1)
	go func() {
		o, err := m.Run(ctx)
		if err != nil {
			t.Error(err)
		}
		done <- o
	}()
	return func() Outcome {
		defer cancel()
		return <-done
	}
}

// awaitCount waits until the guest has counted beyond a number.
func awaitCount(t testing.TB, m *Machine, beyond uint64) uint64 {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		n, err := m.memory.Uint64(countAddr)
		if err != nil {
			t.Fatal(err)
		}
		if n > beyond {
			return n
		}
		if time.Now().After(deadline) {
			o, err := m.Outcome()
			t.Fatalf("the guest stands still at %d: %+v, %v", n, o.Crash, err)
		}
	}
}

// save saves a machine in a folder.
func save(m *Machine, dir string) error {
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return err
	}
	defer pagemap.Close()
	place, err := snapshot.Create(dir)
	if err != nil {
		return err
	}
	defer place.Close()
	if err := m.Save(place.Files(), pagemap); err != nil {
		return err
	}
	return place.Commit()
}

// restored is a machine from a snapshot, with these ends.
func restored(t *testing.T, dir string, e Ends, edit func(*Config)) *Machine {
	t.Helper()
	s, err := snapshot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	var saved Saved
	if err := s.Describe(&saved); err != nil {
		t.Fatal(err)
	}
	cfg, err := saved.Config(e)
	if err != nil {
		t.Fatal(err)
	}
	cfg.RAM, cfg.Console = s.Memory, new(bytes.Buffer)
	if edit != nil {
		edit(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// A machine is saved, goes on, and ends; restored from the snapshot, as often as one
// likes, it goes on from where it was, and so does one that was restored and saved.
func TestSaveAndRestore(t *testing.T) {
	for _, transport := range []Transport{TransportMMIO, TransportPCI} {
		t.Run(string(transport), func(t *testing.T) {
			m := newMachine(t, counts, func(c *Config) { c.DebugExit, c.Transport, c.RNG = true, transport, true })
			wait := inBackground(t, m)
			awaitCount(t, m, 1000)
			dir := filepath.Join(t.TempDir(), "snapshot")
			if err := save(m, dir); err != nil {
				t.Fatal(err)
			}
			n, _ := m.memory.Uint64(countAddr)
			awaitCount(t, m, n) // it goes on
			if err := m.memory.PutUint32(doneAddr, 1); err != nil {
				t.Fatal(err)
			}
			if o := wait(); o.Kind != DebugExit || o.Value != passed {
				t.Errorf("saved, it ends with %+v", o)
			}
			for i := range 3 {
				t.Run(fmt.Sprint(i), func(t *testing.T) {
					m := restored(t, dir, Ends{}, nil)
					start, err := m.memory.Uint64(countAddr)
					if err != nil || start < 1000 || start > n {
						t.Fatalf("it begins with a count of %d, %v; want one from 1000 to %d", start, err, n)
					}
					devices := &card{name: "virtio-test", free: make(chan struct{}), paused: true}
					close(devices.free)
					m.transports = append(m.transports, devices)
					if i == 2 { // paused before it goes on
						m.Pause()
					}
					wait := inBackground(t, m)
					if i == 2 {
						time.Sleep(10 * time.Millisecond)
						if !devices.isPaused() {
							t.Error("devices work in a pause")
						}
						m.Resume()
					}
					awaitCount(t, m, start)
					if devices.isPaused() {
						t.Error("the devices of a machine that goes on stand still")
					}
					m.transports = m.transports[:len(m.transports)-1]
					if i == 1 { // save it once more, over the same snapshot, which it uses
						if err := save(m, dir); err != nil {
							t.Fatal(err)
						}
						s, err := snapshot.Open(dir)
						if err != nil {
							t.Fatal(err)
						}
						defer s.Close()
						if err := s.Verify(); err != nil {
							t.Error(err)
						}
						n, _ = m.memory.Uint64(countAddr)
					}
					if err := m.memory.PutUint32(doneAddr, 1); err != nil {
						t.Fatal(err)
					}
					if o := wait(); o.Kind != DebugExit || o.Value != passed {
						t.Errorf("restored, it ends with %+v", o)
					}
				})
			}
			if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
				t.Errorf("beside the snapshot there is %v, %v", left, err)
			}
		})
	}
}

// description is that of a snapshot.
func description(t testing.TB, dir string) *Saved {
	t.Helper()
	s, err := snapshot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var saved Saved
	if err := s.Describe(&saved); err != nil {
		t.Fatal(err)
	}
	return &saved
}

// savedMachine is a snapshot of a machine with two processors and a virtio device.
func savedMachine(t testing.TB) (dir string) {
	t.Helper()
	m := newMachine(t, counts, func(c *Config) { c.DebugExit, c.RNG, c.CPUs = true, true, 2 })
	wait := inBackground(t, m)
	awaitCount(t, m, 10)
	dir = filepath.Join(t.TempDir(), "snapshot")
	if err := save(m, dir); err != nil {
		t.Fatal(err)
	}
	m.stop(Outcome{Kind: Stopped}, nil)
	wait()
	return dir
}

// A state that makes no sense is refused by name, before the guest runs.
func TestRestoreIsChecked(t *testing.T) {
	dir := savedMachine(t)
	for _, tt := range []struct {
		name string
		edit func(s *SavedState, c *Config)
		want string
	}{
		{"fewer processors", func(s *SavedState, _ *Config) { s.Processors = s.Processors[:1] }, "processors"},
		{"a feature that no host has", func(s *SavedState, _ *Config) {
			for i := range s.Processors[0].CPUID {
				if e := &s.Processors[0].CPUID[i]; e.Function == leafAMDFeatures {
					e.ECX |= 1 << 16 // fma4
				}
			}
		}, "fma4"},
		{"no CPUID", func(s *SavedState, _ *Config) { s.Processors[0].CPUID = make([]kvm.CPUIDEntry, 1000) }, "leaves"},
		{"another frequency", func(s *SavedState, _ *Config) { s.Processors[0].TSCKHz = 1 }, "kHz"},
		{"a short extended state", func(s *SavedState, _ *Config) { s.Processors[1].XState = nil }, "vcpu 1: xstate"},
		{"a short local APIC", func(s *SavedState, _ *Config) { s.Processors[1].LAPIC = []byte{1} }, "vcpu 1: lapic"},
		{"many XCRs", func(s *SavedState, _ *Config) { s.Processors[0].XCRs = make([]kvm.XCR, 17) }, "xcrs"},
		{"registers that there are not", func(s *SavedState, _ *Config) {
			s.Processors[0].MSRs = append(s.Processors[0].MSRs, kvm.MSREntry{Index: 0xdead_0000, Data: 1})
		}, "0xdead0000"},
		{"impossible special registers", func(s *SavedState, _ *Config) { s.Processors[0].Sregs.CR4 = ^uint64(0) }, "KVM_SET_SREGS"},
		{"short chips", func(s *SavedState, _ *Config) { s.Chips.IOAPIC = s.Chips.IOAPIC[1:] }, "ioapic"},
		{"no serial port", func(s *SavedState, _ *Config) { delete(s.Devices, "COM1") }, "devices"},
		{"a wrong serial port", func(s *SavedState, _ *Config) { s.Devices["COM1"] = []byte(`{"trigger":-1}`) }, "COM1: trigger"},
		{"too much received", func(s *SavedState, _ *Config) {
			s.Devices["COM1"] = []byte(`{"trigger":1,"received":"` + strings.Repeat("AAAA", 6) + `"}`)
		}, "COM1: received"},
		{"a wrong clock", func(s *SavedState, _ *Config) { s.Devices["RTC"] = []byte(`{"memory":"AA=="}`) }, "RTC: memory"},
		{"no virtio device", func(s *SavedState, _ *Config) { clear(s.Virtio) }, "virtio"},
		{"another virtio device", func(s *SavedState, _ *Config) {
			s.Virtio["virtio-blk0"] = s.Virtio["virtio-rng0"]
			delete(s.Virtio, "virtio-rng0")
		}, "virtio-rng0 is missing"},
		{"another device's state", func(s *SavedState, _ *Config) {
			state := s.Virtio["virtio-rng0"]
			state.Type = 2
			s.Virtio["virtio-rng0"] = state
		}, "virtio-rng0: type"},
		{"more memory", func(_ *SavedState, c *Config) { c.Memory *= 2 }, "memory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := snapshot.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			saved := description(t, dir)
			cfg, err := saved.Config(Ends{})
			if err != nil {
				t.Fatal(err)
			}
			cfg.RAM, cfg.Console = s.Memory, new(bytes.Buffer)
			tt.edit(&saved.State, &cfg)
			m, err := New(cfg)
			if err == nil {
				m.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
}

// Whatever a description says, the machine is made or refused, and nothing is opened.
func FuzzRestore(f *testing.F) {
	dir := savedMachine(f)
	text, err := json.Marshal(description(f, dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var saved Saved
		if json.Unmarshal(text, &saved) != nil {
			return
		}
		cfg, err := saved.Config(Ends{})
		if err != nil {
			return
		}
		s, err := snapshot.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		cfg.RAM, cfg.Console = s.Memory, new(bytes.Buffer)
		if m, err := New(cfg); err == nil {
			m.Close()
		}
	})
}

// A guest that keeps a device busy goes on doing so, restored again and again: with what
// was in the queue when it was saved, and with the doorbells where they were.
func TestRestoreWithBusyDevice(t *testing.T) {
	kernel := buildGuest(t, "virtio.c")
	for _, tt := range []struct {
		transport Transport
		words     string
	}{{TransportMMIO, "all endless"}, {TransportPCI, "all endless"}, {TransportPCI, "none high endless"}} {
		t.Run(fmt.Sprintf("%s %s", tt.transport, tt.words), func(t *testing.T) {
			m := newMachine(t, nil, func(c *Config) {
				c.Kernel, c.DebugExit, c.RNG, c.Transport, c.Cmdline = kernel, true, true, tt.transport, &tt.words
			})
			count := uint64(0)
			for range 10 {
				wait := inBackground(t, m)
				count = awaitCount(t, m, count+20)
				dir := filepath.Join(t.TempDir(), "snapshot")
				if err := save(m, dir); err != nil {
					t.Fatal(err)
				}
				m.stop(Outcome{Kind: Stopped}, nil)
				wait()
				m = restored(t, dir, Ends{}, nil)
			}
			wait := inBackground(t, m)
			awaitCount(t, m, count+20)
			if err := m.memory.PutUint32(doneAddr, 1); err != nil {
				t.Fatal(err)
			}
			if o := wait(); o.Kind != DebugExit || o.Value != passed {
				t.Errorf("it ends with %+v", o)
			}
		})
	}
}
