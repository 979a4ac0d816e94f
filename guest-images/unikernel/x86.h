// x86.h: the instructions that C has no words for.
#ifndef X86_H
#define X86_H

#include <stdint.h>

static inline void out8(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port)); }
static inline void out32(uint16_t port, uint32_t v) { __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port)); }

static inline uint8_t in8(uint16_t port) {
	uint8_t v;
	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline uint32_t in32(uint16_t port) {
	uint32_t v;
	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline uint64_t read_msr(uint32_t msr) {
	uint32_t low, high;
	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static inline void write_msr(uint32_t msr, uint64_t v) {
	__asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

struct cpuid {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf) {
	struct cpuid r;
	__asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(0));
	return r;
}

// read_tsc reads the time-stamp counter, not before what precedes it. Intel SDM
// vol. 2, RDTSC.
static inline uint64_t read_tsc(void) {
	uint32_t low, high;
	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
	return (uint64_t)high << 32 | low;
}

// Registers of devices in memory, each at its own width.
static inline uint8_t read8(const volatile void *p) { return *(const volatile uint8_t *)p; }
static inline uint16_t read16(const volatile void *p) { return *(const volatile uint16_t *)p; }
static inline uint32_t read32(const volatile void *p) { return *(const volatile uint32_t *)p; }
static inline void write8(volatile void *p, uint8_t v) { *(volatile uint8_t *)p = v; }
static inline void write16(volatile void *p, uint16_t v) { *(volatile uint16_t *)p = v; }
static inline void write32(volatile void *p, uint32_t v) { *(volatile uint32_t *)p = v; }

// barrier keeps the compiler from moving accesses to memory past it: the processor
// keeps all in order but a read after a write. Intel SDM vol. 3 §8.2.2.
static inline void barrier(void) { __asm__ volatile("" ::: "memory"); }

// fence keeps the processor, too.
static inline void fence(void) { __asm__ volatile("mfence" ::: "memory"); }

// wait_for_interrupt sleeps with interrupts on. STI takes effect after the next
// instruction, so that none can come between the two and not wake it.
static inline void wait_for_interrupt(void) { __asm__ volatile("sti; hlt; cli" ::: "memory"); }

#endif
