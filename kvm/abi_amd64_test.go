package kvm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// structs ties each structure that crosses into the kernel to its C name, and
// each of its fields to the C field. A field missing here is padding.
var structs = []struct {
	c      string
	size   string // C expression, when not sizeof(c)
	v      any
	fields map[string]string
}{
	{"struct kvm_enable_cap", "", enableCap{}, map[string]string{"Cap": "cap", "Flags": "flags", "Args": "args"}},
	{"struct kvm_clock_data", "", ClockData{}, map[string]string{"Clock": "clock", "Flags": "flags", "Realtime": "realtime", "HostTSC": "host_tsc"}},
	{"struct kvm_userspace_memory_region", "", memoryRegion{}, map[string]string{"Slot": "slot", "Flags": "flags", "GuestPhysAddr": "guest_phys_addr", "MemorySize": "memory_size", "UserspaceAddr": "userspace_addr"}},
	{"struct kvm_dirty_log", "", dirtyLog{}, map[string]string{"Slot": "slot", "Bitmap": "dirty_bitmap"}},
	{"struct kvm_irq_level", "", irqLevel{}, map[string]string{"GSI": "irq", "Level": "level"}},
	{"struct kvm_irqfd", "", irqFD{}, map[string]string{"FD": "fd", "GSI": "gsi", "Flags": "flags", "ResampleFD": "resamplefd"}},
	{"struct kvm_ioeventfd", "", ioEventFD{}, map[string]string{"DataMatch": "datamatch", "Addr": "addr", "Len": "len", "FD": "fd", "Flags": "flags"}},
	{"struct kvm_msi", "", msi{}, map[string]string{"AddrLo": "address_lo", "AddrHi": "address_hi", "Data": "data", "Flags": "flags", "DevID": "devid"}},
	{"struct kvm_irq_routing_entry", "", irqRoute{}, map[string]string{"GSI": "gsi", "Type": "type", "Flags": "flags", "Union": "u"}},
	{"struct kvm_irq_routing", "sizeof(struct kvm_irq_routing) + 4096 * sizeof(struct kvm_irq_routing_entry)", irqRouting{}, map[string]string{"NR": "nr", "Flags": "flags", "Entries": "entries"}},
	{"struct kvm_cpuid_entry2", "", CPUIDEntry{}, map[string]string{"Function": "function", "Index": "index", "Flags": "flags", "EAX": "eax", "EBX": "ebx", "ECX": "ecx", "EDX": "edx"}},
	{"struct kvm_cpuid2", "sizeof(struct kvm_cpuid2) + 256 * sizeof(struct kvm_cpuid_entry2)", cpuid2{}, map[string]string{"N": "nent", "Entries": "entries"}},
	{"struct kvm_msr_list", "sizeof(struct kvm_msr_list) + 4096 * sizeof(__u32)", msrList{}, map[string]string{"N": "nmsrs", "Indices": "indices"}},
	{"struct kvm_pit_config", "", pitConfig{}, map[string]string{"Flags": "flags"}},
	{"struct kvm_pit_channel_state", "", PITChannel{}, map[string]string{"Count": "count", "LatchedCount": "latched_count", "CountLatched": "count_latched", "StatusLatched": "status_latched", "Status": "status", "ReadState": "read_state", "WriteState": "write_state", "WriteLatch": "write_latch", "RWMode": "rw_mode", "Mode": "mode", "BCD": "bcd", "Gate": "gate", "CountLoadTime": "count_load_time"}},
	{"struct kvm_pit_state2", "", PITState{}, map[string]string{"Channels": "channels", "Flags": "flags"}},
	{"struct kvm_irqchip", "", IRQChipState{}, map[string]string{"Chip": "chip_id", "Data": "chip"}},
	{"struct kvm_guest_debug", "", GuestDebug{}, map[string]string{"Control": "control", "Regs": "arch.debugreg"}},
	{"struct kvm_regs", "", Regs{}, map[string]string{"RAX": "rax", "RBX": "rbx", "RCX": "rcx", "RDX": "rdx", "RSI": "rsi", "RDI": "rdi", "RSP": "rsp", "RBP": "rbp", "R8": "r8", "R9": "r9", "R10": "r10", "R11": "r11", "R12": "r12", "R13": "r13", "R14": "r14", "R15": "r15", "RIP": "rip", "RFLAGS": "rflags"}},
	{"struct kvm_segment", "", Segment{}, map[string]string{"Base": "base", "Limit": "limit", "Selector": "selector", "Type": "type", "Present": "present", "DPL": "dpl", "DB": "db", "S": "s", "L": "l", "G": "g", "AVL": "avl", "Unusable": "unusable"}},
	{"struct kvm_dtable", "", DTable{}, map[string]string{"Base": "base", "Limit": "limit"}},
	{"struct kvm_sregs", "", Sregs{}, map[string]string{"CS": "cs", "DS": "ds", "ES": "es", "FS": "fs", "GS": "gs", "SS": "ss", "TR": "tr", "LDT": "ldt", "GDT": "gdt", "IDT": "idt", "CR0": "cr0", "CR2": "cr2", "CR3": "cr3", "CR4": "cr4", "CR8": "cr8", "EFER": "efer", "APICBase": "apic_base", "InterruptBitmap": "interrupt_bitmap"}},
	{"struct kvm_fpu", "", FPU{}, map[string]string{"FPR": "fpr", "FCW": "fcw", "FSW": "fsw", "FTWX": "ftwx", "LastOpcode": "last_opcode", "LastIP": "last_ip", "LastDP": "last_dp", "XMM": "xmm", "MXCSR": "mxcsr"}},
	{"struct kvm_xsave", "", XSave{}, map[string]string{"Region": "region"}},
	{"struct kvm_xcr", "", XCR{}, map[string]string{"Index": "xcr", "Value": "value"}},
	{"struct kvm_xcrs", "", XCRs{}, map[string]string{"N": "nr_xcrs", "Flags": "flags", "Regs": "xcrs"}},
	{"struct kvm_debugregs", "", DebugRegs{}, map[string]string{"DB": "db", "DR6": "dr6", "DR7": "dr7", "Flags": "flags"}},
	{"struct kvm_translation", "", Translation{}, map[string]string{"Linear": "linear_address", "Physical": "physical_address", "Valid": "valid", "Writable": "writeable", "User": "usermode"}},
	{"struct kvm_msr_entry", "", MSREntry{}, map[string]string{"Index": "index", "Reserved": "reserved", "Data": "data"}},
	{"struct kvm_msrs", "sizeof(struct kvm_msrs) + 256 * sizeof(struct kvm_msr_entry)", msrs{}, map[string]string{"N": "nmsrs", "Entries": "entries"}},
	{"struct kvm_lapic_state", "", LAPIC{}, map[string]string{"Regs": "regs"}},
	{"struct kvm_vcpu_events", "", Events{}, map[string]string{"Exception": "exception", "Interrupt": "interrupt", "NMI": "nmi", "SIPIVector": "sipi_vector", "Flags": "flags", "SMI": "smi", "TripleFault": "triple_fault", "ExceptionHasPayload": "exception_has_payload", "ExceptionPayload": "exception_payload"}},
	{"struct kvm_mp_state", "", MPState(0), nil},
}

// constants ties each number to its C name.
var constants = map[string]uint64{
	"KVM_GET_API_VERSION": reqGetAPIVersion, "KVM_CREATE_VM": reqCreateVM, "KVM_CHECK_EXTENSION": reqCheckExtension,
	"KVM_GET_VCPU_MMAP_SIZE": reqGetVCPUMmapSize, "KVM_GET_MSR_INDEX_LIST": reqGetMSRIndexList,
	"KVM_GET_SUPPORTED_CPUID": reqGetSupportedCPUID, "KVM_CREATE_VCPU": reqCreateVCPU, "KVM_GET_DIRTY_LOG": reqGetDirtyLog,
	"KVM_SET_USER_MEMORY_REGION": reqSetMemoryRegion, "KVM_CREATE_IRQCHIP": reqCreateIRQChip, "KVM_IRQ_LINE": reqIRQLine,
	"KVM_SET_GSI_ROUTING": reqSetGSIRouting, "KVM_IRQFD": reqIRQFD, "KVM_IOEVENTFD": reqIOEventFD,
	"KVM_SET_CLOCK": reqSetClock, "KVM_GET_CLOCK": reqGetClock, "KVM_ENABLE_CAP": reqEnableCap, "KVM_SIGNAL_MSI": reqSignalMSI,
	"KVM_RUN": reqRun, "KVM_GET_MP_STATE": reqGetMPState, "KVM_SET_MP_STATE": reqSetMPState, "KVM_SET_GUEST_DEBUG": reqSetGuestDebug,
	"KVM_SET_TSS_ADDR": reqSetTSSAddr, "KVM_SET_IDENTITY_MAP_ADDR": reqSetIdentityMapAddr, "KVM_GET_IRQCHIP": reqGetIRQChip,
	"KVM_SET_IRQCHIP": reqSetIRQChip, "KVM_CREATE_PIT2": reqCreatePIT2, "KVM_GET_PIT2": reqGetPIT2, "KVM_SET_PIT2": reqSetPIT2,
	"KVM_GET_REGS": reqGetRegs, "KVM_SET_REGS": reqSetRegs, "KVM_GET_SREGS": reqGetSregs, "KVM_SET_SREGS": reqSetSregs,
	"KVM_TRANSLATE": reqTranslate, "KVM_GET_MSRS": reqGetMSRs, "KVM_SET_MSRS": reqSetMSRs, "KVM_GET_FPU": reqGetFPU,
	"KVM_SET_FPU": reqSetFPU, "KVM_GET_LAPIC": reqGetLAPIC, "KVM_SET_LAPIC": reqSetLAPIC, "KVM_SET_CPUID2": reqSetCPUID2,
	"KVM_GET_CPUID2": reqGetCPUID2, "KVM_NMI": reqNMI, "KVM_KVMCLOCK_CTRL": reqKVMClockCtrl, "KVM_GET_VCPU_EVENTS": reqGetVCPUEvents, "KVM_SET_VCPU_EVENTS": reqSetVCPUEvents,
	"KVM_GET_DEBUGREGS": reqGetDebugRegs, "KVM_SET_DEBUGREGS": reqSetDebugRegs, "KVM_SET_TSC_KHZ": reqSetTSCKHz,
	"KVM_GET_TSC_KHZ": reqGetTSCKHz, "KVM_GET_XSAVE": reqGetXSave, "KVM_SET_XSAVE": reqSetXSave, "KVM_GET_XCRS": reqGetXCRs,
	"KVM_SET_XCRS": reqSetXCRs, "KVM_GET_XSAVE2": reqGetXSave2,
	"KVM_CLOCK_REALTIME": ClockRealtime,

	"KVM_API_VERSION": apiVersion, "KVM_CPUID_FLAG_SIGNIFCANT_INDEX": CPUIDSignificantIndex,
	"KVM_MEM_LOG_DIRTY_PAGES": uint64(MemoryLogDirty), "KVM_MEM_READONLY": uint64(MemoryReadOnly),
	"KVM_GUESTDBG_ENABLE": uint64(DebugEnable), "KVM_GUESTDBG_SINGLESTEP": uint64(DebugSingleStep),
	"KVM_GUESTDBG_USE_SW_BP": uint64(DebugSoftware), "KVM_GUESTDBG_USE_HW_BP": uint64(DebugHardware),
	"KVM_GUESTDBG_BLOCKIRQ": uint64(DebugBlockIRQ),
	"KVM_MP_STATE_RUNNABLE": uint64(MPRunnable), "KVM_MP_STATE_UNINITIALIZED": uint64(MPUninitialized),
	"KVM_MP_STATE_INIT_RECEIVED": uint64(MPInitReceived), "KVM_MP_STATE_HALTED": uint64(MPHalted),
	"KVM_MP_STATE_SIPI_RECEIVED": uint64(MPSIPIReceived),
	"KVM_IRQCHIP_PIC_MASTER":     uint64(PICMaster), "KVM_IRQCHIP_PIC_SLAVE": uint64(PICSlave), "KVM_IRQCHIP_IOAPIC": uint64(IOAPIC),
	"KVM_IOEVENTFD_FLAG_DATAMATCH": ioEventDataMatch, "KVM_IOEVENTFD_FLAG_PIO": ioEventPIO, "KVM_IOEVENTFD_FLAG_DEASSIGN": ioEventDeassign,
	"KVM_INTERNAL_ERROR_EMULATION": ErrorEmulation, "KVM_INTERNAL_ERROR_SIMUL_EX": ErrorSimultaneous,
	"KVM_INTERNAL_ERROR_DELIVERY_EV": ErrorDeliveryEvent, "KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON": ErrorUnexpectedReason,

	"KVM_EXIT_UNKNOWN": uint64(ExitUnknown), "KVM_EXIT_EXCEPTION": uint64(ExitException), "KVM_EXIT_IO": uint64(ExitIO),
	"KVM_EXIT_HYPERCALL": uint64(ExitHypercall), "KVM_EXIT_DEBUG": uint64(ExitDebug), "KVM_EXIT_HLT": uint64(ExitHalt),
	"KVM_EXIT_MMIO": uint64(ExitMMIO), "KVM_EXIT_IRQ_WINDOW_OPEN": uint64(ExitIRQWindow), "KVM_EXIT_SHUTDOWN": uint64(ExitShutdown),
	"KVM_EXIT_FAIL_ENTRY": uint64(ExitFailEntry), "KVM_EXIT_INTR": uint64(ExitInterrupted), "KVM_EXIT_NMI": uint64(ExitNMI),
	"KVM_EXIT_INTERNAL_ERROR": uint64(ExitInternalError), "KVM_EXIT_SYSTEM_EVENT": uint64(ExitSystemEvent),
	"KVM_EXIT_IOAPIC_EOI": uint64(ExitIOAPICEOI),

	"offsetof(struct kvm_run, exit_reason)": runExitReason, "offsetof(struct kvm_run, io)": runUnion, "sizeof(struct kvm_run)": runSize,
	"offsetof(struct kvm_run, io.direction)": runUnion, "offsetof(struct kvm_run, io.size)": runUnion + 1,
	"offsetof(struct kvm_run, io.port)": runUnion + 2, "offsetof(struct kvm_run, io.count)": runUnion + 4,
	"offsetof(struct kvm_run, io.data_offset)": runUnion + 8, "offsetof(struct kvm_run, mmio.data)": runUnion + 8,
	"offsetof(struct kvm_run, mmio.len)": runUnion + 16, "offsetof(struct kvm_run, mmio.is_write)": runUnion + 20,
	"offsetof(struct kvm_run, immediate_exit)":              1,
	"offsetof(struct kvm_run, kvm_valid_regs)":              runValidRegs,
	"offsetof(struct kvm_run, s.regs)":                      runSyncRegs,
	"offsetof(struct kvm_sync_regs, regs)":                  0,
	"KVM_SYNC_X86_REGS":                                     syncRegs,
	"offsetof(struct kvm_run, internal.data)":               runUnion + 8,
	"offsetof(struct kvm_run, fail_entry.cpu)":              runUnion + 8,
	"offsetof(struct kvm_run, debug.arch.pc)":               runUnion + 8,
	"offsetof(struct kvm_run, debug.arch.dr6)":              runUnion + 16,
	"offsetof(struct kvm_run, debug.arch.dr7)":              runUnion + 24,
	"offsetof(struct kvm_run, emulation_failure.insn_size)": runUnion + 16,
}

// The Go side of the interface is the C side: sizes, offsets and numbers.
func TestABI(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		missing(t, "no C compiler: install gcc")
	}
	want := map[string]uint64{}
	for _, s := range structs {
		typ := reflect.TypeOf(s.v)
		size := s.size
		if size == "" {
			size = "sizeof(" + s.c + ")"
		}
		want[size] = uint64(typ.Size())
		if typ.Kind() != reflect.Struct {
			continue
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			c, ok := s.fields[f.Name]
			if !ok {
				if f.Name != "_" {
					t.Errorf("%v.%s is not compared with a field of %s", typ, f.Name, s.c)
				}
				continue
			}
			want[fmt.Sprintf("offsetof(%s, %s)", s.c, c)] = uint64(f.Offset)
		}
	}
	for name, n := range constants {
		want[name] = n
	}
	for c, name := range capNames {
		want["KVM_CAP_"+name] = uint64(c)
	}

	var program strings.Builder
	program.WriteString("#include <stddef.h>\n#include <stdio.h>\n#include <linux/kvm.h>\nint main(void) {\n")
	for expr := range want {
		fmt.Fprintf(&program, "printf(\"%%llu %%s\\n\", (unsigned long long)(%s), \"%s\");\n", expr, expr)
	}
	program.WriteString("return 0; }\n")
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "abi.c"), filepath.Join(dir, "abi")
	if err := os.WriteFile(source, []byte(program.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cc, "-o", binary, source).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	out, err := exec.Command(binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for line := range strings.Lines(string(out)) {
		var n uint64
		if _, err := fmt.Sscan(line, &n); err != nil {
			t.Fatal(err)
		}
		_, expr, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n != want[expr] {
			t.Errorf("%s is %d (%#x) in C and %d (%#x) here", expr, n, n, want[expr], want[expr])
		}
		checked++
	}
	if checked != len(want) {
		t.Errorf("%d of %d numbers were compared", checked, len(want))
	}
}

// missing skips a test for want of something, or fails it where the
// environment says that it must be there.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("VMM_REQUIRE_KVM") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}
