package machine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmm/devices"
	"vmm/devices/virtio"
	"vmm/kvm"
)

var errRefused = errors.New("refused")

// kvmTables is KVM's part: its tables, and which of the calls it refuses.
type kvmTables struct {
	calls  int
	refuse func(call int) bool

	events map[kvm.IOEvent]int // addresses of writes, to eventfds
	routes []kvm.Route
	fds    map[uint32]int // GSIs, to eventfds
}

func (k *kvmTables) refused() bool {
	k.calls++
	return k.refuse != nil && k.refuse(k.calls)
}

func (k *kvmTables) AddIOEventFD(fd int, e kvm.IOEvent) error {
	if _, taken := k.events[e]; taken || k.refused() {
		return errRefused
	}
	k.events[e] = fd
	return nil
}

func (k *kvmTables) RemoveIOEventFD(fd int, e kvm.IOEvent) error {
	if has, ok := k.events[e]; !ok || has != fd || k.refused() {
		return errRefused
	}
	delete(k.events, e)
	return nil
}

func (k *kvmTables) SetGSIRouting(table []kvm.Route) error {
	for _, r := range table {
		// As KVM with 32-bit APIC IDs: the low byte of the upper address is 0.
		if r.MSI != nil && r.MSI.Addr>>32&0xff != 0 {
			return errRefused
		}
	}
	if k.refused() {
		return errRefused
	}
	k.routes = slices.Clone(table)
	return nil
}

func (k *kvmTables) AddIRQFD(fd int, gsi uint32) error {
	if _, taken := k.fds[gsi]; taken || k.refused() {
		return errRefused
	}
	k.fds[gsi] = fd
	return nil
}

func newTables() *kvmTables {
	return &kvmTables{events: map[kvm.IOEvent]int{}, fds: map[uint32]int{}}
}

// newBells are devices with three doorbells each.
func newBells(t *testing.T, k *kvmTables, n int) (*doorbells, []*bells) {
	t.Helper()
	d := &doorbells{kvm: k}
	var all []*bells
	for range n {
		var list []virtio.Doorbell
		for i := range 3 {
			event, err := devices.NewEvent()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { event.Close() })
			list = append(list, virtio.Doorbell{Event: event, Offset: 0x3000 + 4*uint64(i)})
		}
		all = append(all, d.add(list))
	}
	return d, all
}

// expect checks that KVM answers all doorbells of the given devices where they are,
// and nothing else.
func expect(t *testing.T, k *kvmTables, all ...*bells) {
	t.Helper()
	want := map[kvm.IOEvent]int{}
	for _, b := range all {
		for _, bell := range b.list {
			want[kvm.IOEvent{Addr: b.base + bell.Offset}] = bell.Event.FD()
		}
	}
	if diff := cmp.Diff(want, k.events); diff != "" {
		t.Errorf("KVM answers (-want +got)\n%s", diff)
	}
}

// Two devices at one address: the first has its doorbells answered by KVM; and the
// second too, once the first has gone elsewhere, or itself.
func TestDoorbellsCollide(t *testing.T) {
	const here, there = 0xd000_0000, 0xd000_8000
	k := newTables()
	_, b := newBells(t, k, 2)
	if err := b[0].move(here); err != nil {
		t.Fatal(err)
	}
	if err := b[1].move(here); err == nil {
		t.Error("no error about a collision")
	}
	expect(t, k, b[0])
	if err := b[1].move(there); err != nil {
		t.Error(err)
	}
	expect(t, k, b...)
	if err := b[1].move(here); err == nil {
		t.Error("no error about a collision")
	}
	expect(t, k, b[0])
	if err := b[0].move(0); err != nil {
		t.Error(err)
	}
	expect(t, k, b[1])
}

// Whichever call KVM refuses, all of a device's doorbells are answered or none, and
// the next move sets everything right.
func TestDoorbellsRefused(t *testing.T) {
	for call := 1; ; call++ {
		k := newTables()
		_, b := newBells(t, k, 2)
		failed := false
		k.refuse = func(n int) bool { failed = failed || n == call; return n == call }
		errs := []error{b[0].move(0x1000_0000), b[1].move(0x2000_0000), b[0].move(0x3000_0000), b[1].move(0)}
		if !failed {
			if err := errors.Join(errs...); err != nil {
				t.Error(err)
			}
			break
		}
		if errors.Join(errs...) == nil {
			t.Errorf("call %d failed without an error", call)
		}
		for _, addr := range []uint64{0x1000_0000, 0x2000_0000, 0x3000_0000} {
			n := 0
			for e := range k.events {
				if e.Addr&^0xffff == addr {
					n++
				}
			}
			if n != 0 && n != 3 && addr == b[0].base {
				t.Errorf("call %d: KVM answers %d of 3 doorbells at %#x", call, n, addr)
			}
		}
		k.refuse = nil
		if err := b[0].move(0x4000_0000); err != nil {
			t.Errorf("call %d: then %v", call, err)
		}
		if err := b[1].move(0x5000_0000); err != nil {
			t.Errorf("call %d: then %v", call, err)
		}
		expect(t, k, b...)
	}
}

// However devices are moved over each other and KVM refuses, in the end it answers
// where they are.
func TestDoorbellsAtRandom(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		k := newTables()
		_, b := newBells(t, k, 4)
		k.refuse = func(int) bool { return r.IntN(8) == 0 }
		for range 100 {
			_ = b[r.IntN(len(b))].move(uint64(r.IntN(4)) << 28)
		}
		k.refuse = nil
		for i := range b {
			_ = b[i].move(0)
		}
		for i := range b {
			if err := b[i].move(uint64(i+1) << 28); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
		if expect(t, k, b...); t.Failed() {
			t.Fatal("seed ", seed)
		}
	}
}

// Whichever call KVM refuses, the interrupts go where they went, and a second try
// works.
func TestRoutesRefused(t *testing.T) {
	for call := 1; ; call++ {
		k := newTables()
		r := &routes{}
		var all []*message
		for range 3 {
			event, err := devices.NewEvent()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { event.Close() })
			all = append(all, r.message(k, event, "test", new(tracing)).(*message))
		}
		failed := false
		k.refuse = func(n int) bool { failed = failed || n == call; return n == call }
		targets := map[uint32]kvm.MSI{}
		for step := range uint32(6) {
			m := all[step%3]
			msi := kvm.MSI{Addr: 0xfee0_0000, Data: step}
			if err := m.Route(msi.Addr, msi.Data); err == nil {
				targets[m.gsi] = msi
			} else if err := m.Route(msi.Addr, msi.Data); err != nil {
				t.Errorf("call %d: the second try: %v", call, err)
			} else {
				targets[m.gsi] = msi
			}
			checkRoutes(t, fmt.Sprint("call ", call), k, all, targets)
		}
		if !failed {
			return
		}
	}
}

// A target that KVM never takes leaves the others working.
func TestRouteNowhere(t *testing.T) {
	k := newTables()
	r := &routes{}
	var all []*message
	for range 2 {
		event, err := devices.NewEvent()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { event.Close() })
		all = append(all, r.message(k, event, "test", new(tracing)).(*message))
	}
	if err := all[0].Route(0xff_fee0_0000, 1); err == nil {
		t.Error("no error")
	}
	if err := all[1].Route(0xfee0_0000, 2); err != nil {
		t.Error(err)
	}
	if err := all[1].Route(0xff_fee0_0000, 3); err == nil {
		t.Error("no error")
	}
	checkRoutes(t, "one", k, all, map[uint32]kvm.MSI{all[1].gsi: {Addr: 0xfee0_0000, Data: 2}})
	if err := all[0].Route(0xfee0_0000, 4); err != nil {
		t.Error(err)
	}
	checkRoutes(t, "both", k, all, map[uint32]kvm.MSI{
		all[0].gsi: {Addr: 0xfee0_0000, Data: 4}, all[1].gsi: {Addr: 0xfee0_0000, Data: 2},
	})
}

// checkRoutes checks that exactly the interrupts of targets lead there, beside those
// that are wired.
func checkRoutes(t *testing.T, when string, k *kvmTables, all []*message, targets map[uint32]kvm.MSI) {
	t.Helper()
	got := map[uint32]kvm.MSI{}
	wired := 0
	for _, r := range k.routes {
		if r.MSI == nil {
			wired++
		} else if _, tied := k.fds[r.GSI]; tied {
			got[r.GSI] = *r.MSI
		}
	}
	if diff := cmp.Diff(targets, got); diff != "" {
		t.Errorf("%s: interrupts lead to (-want +got)\n%s", when, diff)
	}
	if want := len(wiredRoutes()); wired != want && len(targets) > 0 {
		t.Errorf("%s: %d wired routes; want %d", when, wired, want)
	}
	for _, m := range all {
		if msi, ok := targets[m.gsi]; ok && (m.msi == nil || *m.msi != msi || k.fds[m.gsi] != m.FD()) {
			t.Errorf("%s: GSI %d leads to %v by its own account; want %v", when, m.gsi, m.msi, msi)
		} else if !ok && m.msi != nil {
			t.Errorf("%s: GSI %d leads nowhere, but to %v by its own account", when, m.gsi, m.msi)
		}
	}
}
