package machine

import (
	"math/bits"
	"slices"

	"vmm/cpuid"
	"vmm/kvm"
)

// CPUID leaves that depend on the vCPU or on the machine. Intel SDM vol. 2,
// CPUID; AMD APM vol. 3, appendix E.
const (
	leafFeatures    = 0x1
	leafCache       = 0x4 // Intel
	leafTopology    = 0xb
	leafTopologyV2  = 0x1f
	leafKVM         = 0x4000_0000 // the hypervisor's signature
	leafKVMTiming   = 0x4000_0010 // frequencies, as VMware defined it
	leafExtended    = 0x8000_0000 // the highest leaf of this range
	leafAMDFeatures = 0x8000_0001
	leafBrand       = 0x8000_0002 // and the two that follow
	leafAMDSize     = 0x8000_0008
	leafSVM         = 0x8000_000a
	leafAMDCache    = 0x8000_001d
	leafAMDTopology = 0x8000_001e
	leafAMDTopoV2   = 0x8000_0026
)

// brandLeaves is how many leaves the processor's name has.
const brandLeaves = 3

// Feature bits.
const (
	ecxVMX         = 1 << 5  // leaf 1
	ecxTSCDeadline = 1 << 24 // leaf 1
	ecxHypervisor  = 1 << 31 // leaf 1
	edxHTT         = 1 << 28 // leaf 1: more than one logical processor
	ecxCmpLegacy   = 1 << 1  // leaf 0x80000001: and they are cores
	ecxSVM         = 1 << 2  // leaf 0x80000001
)

// apicBusKHz is the frequency at which KVM's local APIC timer counts.
const apicBusKHz = 1_000_000

// withoutVirtualization leaves out what a guest needs for machines of its own. Without
// the bits of VMX and SVM, KVM refuses their instructions and registers, too.
func withoutVirtualization(supported []kvm.CPUIDEntry) []kvm.CPUIDEntry {
	var leaves []kvm.CPUIDEntry
	for _, e := range supported {
		switch e.Function {
		case leafFeatures:
			e.ECX &^= ecxVMX
		case leafAMDFeatures:
			e.ECX &^= ecxSVM
		case leafSVM:
			continue
		}
		leaves = append(leaves, e)
	}
	return leaves
}

// guestCPUID is what CPUID says on processor id of count. It is what KVM supports
// on this host, with a topology of one package, count cores and a thread each.
// tscKHz is the frequency of the time-stamp counter, 0 when not known; deadline
// says that the local APIC's timer can wait for a value of it.
//
// Leaf 0x15, Intel's own for that frequency, stays empty: Linux takes the
// crystal in it for the APIC timer's clock and multiplies in 32 bits, which
// leaves no room for both KVM's 1 GHz and a precise ratio. Linux has the
// frequency from kvmclock, and others look at leaf 0x40000010.
func guestCPUID(supported []kvm.CPUIDEntry, id, count int, tscKHz uint32, deadline bool) []kvm.CPUIDEntry {
	apicID := uint32(id)
	// APIC IDs of one package differ in this many low bits.
	idBits := uint32(bits.Len(uint(count - 1)))

	var leaves []kvm.CPUIDEntry
	for _, e := range supported {
		switch e.Function {
		case leafTopology, leafTopologyV2:
			// Built below: KVM reports the host's, for one processor.
			if e.Index == 0 {
				leaves = append(leaves, topology(e.Function, apicID, uint32(count), idBits)...)
			}
			continue
		case leafAMDTopoV2:
			continue // leaf 0xb says the same
		case leafFeatures:
			e.EBX = e.EBX&0x0000_ffff | apicID<<24 | uint32(count)<<16
			e.ECX |= ecxHypervisor
			e.ECX &^= ecxTSCDeadline // KVM says it elsewhere: KVM api.rst §4.46
			if deadline {
				e.ECX |= ecxTSCDeadline
			}
			e.EDX &^= edxHTT
			if count > 1 {
				e.EDX |= edxHTT
			}
		case leafCache:
			if e.EAX&0x1f != 0 { // a cache, and not the end of the list
				e.EAX = e.EAX&0x3fff | sharing(e.EAX, idBits)<<14 | (1<<idBits-1)<<26
			}
		case leafKVM:
			e.EAX = max(e.EAX, leafKVMTiming)
		case leafAMDFeatures:
			e.ECX &^= ecxCmpLegacy
			if count > 1 && isAMD(supported) {
				e.ECX |= ecxCmpLegacy
			}
		case leafAMDSize:
			if isAMD(supported) {
				e.ECX = idBits<<12 | uint32(count-1)
			}
		case leafAMDCache:
			if e.EAX&0x1f != 0 {
				e.EAX = e.EAX&^(0xfff<<14) | sharing(e.EAX, idBits)<<14
			}
		case leafAMDTopology:
			e.EAX = apicID
			e.EBX = apicID & 0xff // core; one thread in each
			e.ECX = 0             // node 0 of one
		}
		leaves = append(leaves, e)
	}
	if tscKHz != 0 {
		leaves = append(leaves, kvm.CPUIDEntry{Function: leafKVMTiming, EAX: tscKHz, EBX: apicBusKHz})
	}
	return leaves
}

// sharing is the highest number that may be added to a processor's APIC ID
// within a cache's reach: the whole package for level 3, one core below.
func sharing(eax, idBits uint32) uint32 {
	if level := eax >> 5 & 7; level >= 3 {
		return 1<<idBits - 1
	}
	return 0
}

// topology is leaf 0xb or 0x1f: a level of threads, one of cores, and the end.
func topology(leaf, apicID, count, idBits uint32) []kvm.CPUIDEntry {
	const smt, core = 1, 2
	level := func(index, shift, processors, kind uint32) kvm.CPUIDEntry {
		return kvm.CPUIDEntry{
			Function: leaf, Index: index, Flags: kvm.CPUIDSignificantIndex,
			EAX: shift, EBX: processors, ECX: kind<<8 | index, EDX: apicID,
		}
	}
	return []kvm.CPUIDEntry{
		level(0, 0, 1, smt),
		level(1, idBits, count, core),
		level(2, 0, 0, 0),
	}
}

// isAMD reports whether the processor names itself as AMD's, or as Hygon's,
// which is alike.
func isAMD(leaves []kvm.CPUIDEntry) bool {
	i := slices.IndexFunc(leaves, func(e kvm.CPUIDEntry) bool { return e.Function == 0 })
	if i < 0 {
		return false
	}
	const auth, hygo = 0x6874_7541, 0x6f67_7948 // "Auth", "Hygo"
	return leaves[i].EBX == auth || leaves[i].EBX == hygo
}

// addressBits is how many bits the guest-physical addresses have that KVM serves:
// those that it names itself, or those of the processor, and then no more than four
// levels of nested page tables reach. AMD APM vol. 3, appendix E.4.7, "GuestPhysAddrSize".
func addressBits(supported []kvm.CPUIDEntry) uint {
	const fourLevels, without = 48, 36 // without the leaf: Intel SDM vol. 3 §4.1.4
	i := slices.IndexFunc(supported, func(e kvm.CPUIDEntry) bool { return e.Function == leafAMDSize })
	if i < 0 {
		return without
	}
	processor, guest := uint(supported[i].EAX&0xff), uint(supported[i].EAX>>16&0xff)
	if guest != 0 {
		return min(processor, guest)
	}
	return min(processor, fourLevels)
}

// withBrand adds what KVM leaves out of the leaves that it supports: the
// processor's name, 48 characters in three leaves, which is the host's own. Linux
// shows it as the model name. Intel SDM vol. 2, CPUID, "The Processor Brand String
// Method".
func withBrand(supported []kvm.CPUIDEntry) []kvm.CPUIDEntry {
	if cpuid.Execute(leafExtended, 0).EAX < leafBrand+brandLeaves-1 {
		return supported
	}
	leaves := slices.DeleteFunc(slices.Clone(supported), func(e kvm.CPUIDEntry) bool {
		return e.Function >= leafBrand && e.Function < leafBrand+brandLeaves
	})
	for i := range uint32(brandLeaves) {
		l := cpuid.Execute(leafBrand+i, 0)
		leaves = append(leaves, kvm.CPUIDEntry{Function: l.Function, EAX: l.EAX, EBX: l.EBX, ECX: l.ECX, EDX: l.EDX})
	}
	return leaves
}
