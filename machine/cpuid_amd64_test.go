package machine

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmm/kvm"
)

// host is a part of what KVM reports on a host of 8 processors, with what must
// not reach a guest unchanged.
func host(vendor uint32) []kvm.CPUIDEntry {
	indexed := func(f, i, a, b, c, d uint32) kvm.CPUIDEntry {
		return kvm.CPUIDEntry{Function: f, Index: i, Flags: kvm.CPUIDSignificantIndex, EAX: a, EBX: b, ECX: c, EDX: d}
	}
	return []kvm.CPUIDEntry{
		{Function: 0, EAX: 0x1f, EBX: vendor},
		{Function: leafFeatures, EAX: 0xa20f10, EBX: 0x0708_0800, ECX: 0x0020_0000, EDX: edxHTT | 0x0783_fbff},
		// Intel's caches: L1 data of a core with two threads, L3 of 8 cores, the end.
		indexed(leafCache, 0, 0x1c00_4121, 1, 2, 0),
		indexed(leafCache, 3, 0x1c03_c163, 1, 2, 0),
		indexed(leafCache, 4, 0, 0, 0, 0),
		indexed(leafTopology, 0, 1, 2, 0x100, 7),
		indexed(leafTopology, 1, 4, 8, 0x201, 7),
		{Function: leafKVM, EAX: 0x4000_0001, EBX: 0x4b4d_564b},
		{Function: leafAMDFeatures, ECX: ecxCmpLegacy | 1},
		{Function: leafAMDSize, EAX: 0x3030, ECX: 0x400f},
		indexed(leafAMDCache, 0, 0x0000_4121, 1, 2, 0),
		indexed(leafAMDCache, 3, 0x0003_c163, 1, 2, 0),
		{Function: leafAMDTopology, EAX: 7, EBX: 0x0103, ECX: 1},
		indexed(leafAMDTopoV2, 0, 1, 2, 3, 7),
	}
}

const (
	intel = 0x756e_6547 // "Genu"
	amd   = 0x6874_7541 // "Auth"
)

// find returns the answer to a function and index.
func find(t *testing.T, leaves []kvm.CPUIDEntry, function, index uint32) kvm.CPUIDEntry {
	t.Helper()
	for _, e := range leaves {
		if e.Function == function && (e.Flags&kvm.CPUIDSignificantIndex == 0 || e.Index == index) {
			return e
		}
	}
	t.Fatalf("no leaf %#x.%d", function, index)
	return kvm.CPUIDEntry{}
}

func TestCPUID(t *testing.T) {
	const khz = 2_500_000
	for _, vendor := range []uint32{intel, amd} {
		for _, count := range []int{1, 2, 3, 4, 64} {
			for id := range count {
				t.Run(fmt.Sprintf("%#x, %d of %d", vendor, id, count), func(t *testing.T) {
					leaves := guestCPUID(host(vendor), id, count, khz, true)
					want := func(what string, got, want uint32) {
						t.Helper()
						if got != want {
							t.Errorf("%s: %#x; want %#x", what, got, want)
						}
					}
					f := find(t, leaves, leafFeatures, 0)
					want("initial APIC ID", f.EBX>>24, uint32(id))
					want("logical processors", f.EBX>>16&0xff, uint32(count))
					want("CLFLUSH size", f.EBX>>8&0xff, 8)
					want("HTT", f.EDX&edxHTT>>28, b2u(count > 1))
					want("hypervisor and TSC deadline", f.ECX&(ecxHypervisor|ecxTSCDeadline), ecxHypervisor|ecxTSCDeadline)
					want("signature", f.EAX, 0xa20f10)

					smt, core, end := find(t, leaves, leafTopology, 0), find(t, leaves, leafTopology, 1), find(t, leaves, leafTopology, 2)
					for _, level := range []kvm.CPUIDEntry{smt, core} {
						want("x2APIC ID", level.EDX, uint32(id))
					}
					want("threads", smt.EBX, 1)
					want("thread bits", smt.EAX, 0)
					want("processors", core.EBX, uint32(count))
					want("level types", smt.ECX|core.ECX<<16, 0x0100|0x0201<<16)
					want("no more levels", end.EBX|end.ECX>>8, 0)
					// All APIC IDs of the package fit into its bits, and no fewer would do.
					if bits := core.EAX; count-1 >= 1<<bits || bits > 0 && count-1 < 1<<(bits-1) {
						t.Errorf("%d bits for %d processors", bits, count)
					}

					top := uint32(1)<<core.EAX - 1
					l1, l3 := find(t, leaves, leafCache, 0), find(t, leaves, leafCache, 3)
					want("L1 shared by", l1.EAX>>14&0xfff, 0)
					want("L3 shared by", l3.EAX>>14&0xfff, top)
					want("cores", l1.EAX>>26, top)
					want("cache type and level", l1.EAX&0x3fff, 0x121)
					want("end of the caches", find(t, leaves, leafCache, 4).EAX, 0)

					timing := find(t, leaves, leafKVMTiming, 0)
					want("TSC", timing.EAX, khz)
					want("APIC bus", timing.EBX, 1_000_000)
					if find(t, leaves, leafKVM, 0).EAX < leafKVMTiming {
						t.Error("the leaf of frequencies is beyond the last one")
					}

					if vendor == amd {
						size := find(t, leaves, leafAMDSize, 0)
						want("threads of the package", size.ECX&0xff, uint32(count-1))
						want("APIC ID bits", size.ECX>>12&0xf, core.EAX)
						want("CmpLegacy", find(t, leaves, leafAMDFeatures, 0).ECX&ecxCmpLegacy, b2u(count > 1)<<1)
						node := find(t, leaves, leafAMDTopology, 0)
						want("extended APIC ID", node.EAX, uint32(id))
						want("core", node.EBX, uint32(id))
						want("node", node.ECX, 0)
						want("AMD L3 shared by", find(t, leaves, leafAMDCache, 3).EAX>>14&0xfff, top)
					}
					for _, e := range leaves {
						if e.Function == leafAMDTopoV2 {
							t.Error("the host's topology shows in leaf 0x80000026")
						}
					}
				})
			}
		}
	}
}

// A guest has neither VMX nor SVM, and all else.
func TestNoNestedVirtualization(t *testing.T) {
	for _, vendor := range []uint32{intel, amd} {
		supported := append(host(vendor), kvm.CPUIDEntry{Function: leafSVM, EAX: 1, EBX: 16, EDX: 0xff})
		supported[1].ECX |= ecxVMX
		for i := range supported {
			if supported[i].Function == leafAMDFeatures {
				supported[i].ECX |= ecxSVM
			}
		}

		got := withoutVirtualization(supported)

		if diff := cmp.Diff(host(vendor), got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func TestCPUIDWithoutTSCFrequency(t *testing.T) {
	for _, e := range guestCPUID(host(intel), 0, 1, 0, true) {
		if e.Function == leafKVMTiming {
			t.Errorf("a leaf of frequencies, %+v, and none is known", e)
		}
	}
}

// The TSC deadline timer is there where KVM has it, whatever it says of the leaf.
func TestCPUIDDeadlineTimer(t *testing.T) {
	claims := host(intel)
	claims[1].ECX |= ecxTSCDeadline
	for _, supported := range [][]kvm.CPUIDEntry{host(intel), claims} {
		for _, deadline := range []bool{false, true} {
			f := find(t, guestCPUID(supported, 0, 1, 0, deadline), leafFeatures, 0)
			if got := f.ECX&ecxTSCDeadline != 0; got != deadline {
				t.Errorf("deadline timer %v; want %v", got, deadline)
			}
		}
	}
}

// The processor's name is the host's, each leaf of it once.
func TestCPUIDBrand(t *testing.T) {
	supported := append(host(amd), kvm.CPUIDEntry{Function: leafBrand}, kvm.CPUIDEntry{Function: leafBrand + 1}, kvm.CPUIDEntry{Function: leafBrand + 2})
	var name []byte
	for _, e := range withBrand(supported) {
		if e.Function < leafBrand || e.Function >= leafBrand+brandLeaves {
			continue
		}
		for _, r := range []uint32{e.EAX, e.EBX, e.ECX, e.EDX} {
			name = le.AppendUint32(name, r)
		}
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	_, model, _ := strings.Cut(string(info), "model name\t: ")
	model, _, _ = strings.Cut(model, "\n")
	if got := strings.TrimSpace(string(bytes.TrimRight(name, "\x00"))); len(name) != 48 || got != model {
		t.Errorf("the guest's processor is %q; the host's is %q", got, model)
	}
}

func b2u(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
