// clock.c: the time, from the time-stamp counter. How fast that is KVM tells;
// without KVM it is measured against the APIC's timer.
#include "clock.h"

#include <stdbool.h>

#include "interrupts.h"
#include "x86.h"

// KVM's clock. Documentation/virt/kvm/x86/cpuid.rst and msr.rst, of Linux.
enum {
	LEAF_HYPERVISOR = 0x40000000,
	LEAF_KVM_FEATURES = 0x40000001,
	KVM_CLOCKSOURCE2 = 1 << 3,
	MSR_KVM_SYSTEM_TIME_NEW = 0x4b564d01,
	CLOCK_ON = 1,
};

// pace says how to turn the counter into nanoseconds: KVM's struct
// pvclock_vcpu_time_info. KVM may write it at any time, with an odd version
// meanwhile.
static volatile struct {
	uint32_t version, pad;
	uint64_t tsc, ns; // at the same time
	uint32_t scale;   // nanoseconds of a tick, after the shift, times 2^32
	int8_t shift;
	uint8_t flags, pad2[2];
} pace __attribute__((aligned(32)));

static uint64_t start, last;

static uint64_t read_clock(void) {
	uint32_t version;
	uint64_t ns;
	do {
		version = pace.version;
		barrier();
		uint64_t ticks = read_tsc() - pace.tsc;
		ticks = pace.shift < 0 ? ticks >> -pace.shift : ticks << pace.shift;
		ns = pace.ns + (uint64_t)((unsigned __int128)ticks * pace.scale >> 32);
		barrier();
	} while (version & 1 || version != pace.version);
	return ns;
}

static bool has_kvm_clock(void) {
	struct cpuid id = cpuid(LEAF_HYPERVISOR);
	return id.ebx == 0x4b4d564b && id.ecx == 0x564b4d56 && id.edx == 0x4d && // "KVMKVMKVM"
	       cpuid(LEAF_KVM_FEATURES).eax & KVM_CLOCKSOURCE2;
}

// measure counts the ticks of a millisecond.
static void measure(void) {
	enum { MS = 1000000, SHIFT = 4 }; // the shift makes room for counters of 63 MHz and more
	start_timer(1000ull * MS);
	uint64_t ns = timer_left(), ticks = read_tsc();
	while (ns - timer_left() < MS)
		;
	pace.tsc = read_tsc();
	pace.shift = SHIFT;
	pace.scale = ((uint64_t)MS << (32 - SHIFT)) / (pace.tsc - ticks);
}

void clock_init(void) {
	if (has_kvm_clock())
		write_msr(MSR_KVM_SYSTEM_TIME_NEW, (uint64_t)&pace | CLOCK_ON);
	else
		measure();
	start = read_clock();
}

uint64_t clock_ns(void) {
	uint64_t ns = read_clock() - start;
	if (ns > last)
		last = ns;
	return last;
}
