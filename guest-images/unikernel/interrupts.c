// interrupts.c: the interrupt descriptor table, the local APIC with its timer, and
// the I/O APIC.
#include "interrupts.h"

#include "console.h"
#include "x86.h"

// gate is an entry of the IDT. Intel SDM vol. 3 §6.14.1.
struct gate {
	uint16_t offset_low, selector;
	uint8_t stack, type;
	uint16_t offset_middle;
	uint32_t offset_high, reserved;
};

enum {
	CODE = 8, // a selector of start.S
	INTERRUPT_GATE = 0x8e,
};

static struct gate idt[256] __attribute__((aligned(16)));

// Of vectors.S.
extern char exception_vectors[], timer_vector[], network_vector[], console_vector[], spurious_vector[];

static void set_gate(int vector, const char *handler) {
	uint64_t at = (uint64_t)handler;
	idt[vector] = (struct gate){
		.offset_low = at, .selector = CODE, .type = INTERRUPT_GATE, .offset_middle = at >> 16, .offset_high = at >> 32,
	};
}

// Registers of the local APIC. Intel SDM vol. 3 §11.4.1.
enum {
	SPURIOUS = 0xf0,
	LVT_TIMER = 0x320,
	LVT_LINT0 = 0x350,
	TIMER_INITIAL = 0x380,
	TIMER_CURRENT = 0x390,
	TIMER_DIVIDE = 0x3e0,

	APIC_ON = 1 << 8, // of SPURIOUS
	MASKED = 1 << 16, // of the LVT
	BY_16 = 3,        // of TIMER_DIVIDE
};

// A monitor's APIC timer counts nanoseconds, KVM's and QEMU's both: KVM api.rst,
// KVM_CAP_X86_APIC_BUS_CYCLES_NS; QEMU, hw/intc/apic_common.c. Divided by 16 it
// reaches beyond a minute.
enum { TIMER_NS = 16 };

static volatile char *const apic = (volatile char *)0xfee00000;

// The I/O APIC's registers, through a window. Intel 82093AA data sheet §3.
static volatile char *const ioapic = (volatile char *)0xfec00000;
enum { IOAPIC_SELECT = 0, IOAPIC_WINDOW = 0x10, IOAPIC_VERSION = 1, IOAPIC_REDIRECTION = 0x10 };

static uint32_t ioapic_read(uint32_t reg) {
	write32(ioapic + IOAPIC_SELECT, reg);
	return read32(ioapic + IOAPIC_WINDOW);
}

static void ioapic_write(uint32_t reg, uint32_t v) {
	write32(ioapic + IOAPIC_SELECT, reg);
	write32(ioapic + IOAPIC_WINDOW, v);
}

bool connect_interrupt(uint32_t input, uint8_t vector) {
	if (input > (ioapic_read(IOAPIC_VERSION) >> 16 & 0xff))
		return false;
	// Fixed delivery, to the processor of APIC ID 0, at a rising edge.
	ioapic_write(IOAPIC_REDIRECTION + 2 * input + 1, 0);
	ioapic_write(IOAPIC_REDIRECTION + 2 * input, vector);
	return true;
}

void interrupts_init(void) {
	for (int i = 0; i < 32; i++)
		set_gate(i, exception_vectors + 16 * i);
	set_gate(TIMER_VECTOR, timer_vector);
	set_gate(NETWORK_VECTOR, network_vector);
	set_gate(CONSOLE_VECTOR, console_vector);
	set_gate(SPURIOUS_VECTOR, spurious_vector);
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = {sizeof idt - 1, (uint64_t)idt};
	__asm__ volatile("lidt %0" ::"m"(pointer));

	// The two 8259, which came before, are not to interrupt as well.
	out8(0x21, 0xff);
	out8(0xa1, 0xff);
	write32(apic + LVT_LINT0, MASKED);
	write32(apic + SPURIOUS, APIC_ON | SPURIOUS_VECTOR);
	write32(apic + TIMER_DIVIDE, BY_16);
	write32(apic + LVT_TIMER, TIMER_VECTOR); // once
}

void start_timer(uint64_t ns) {
	uint64_t count = ns / TIMER_NS + 1; // 0 would stop it
	write32(apic + TIMER_INITIAL, count > UINT32_MAX ? UINT32_MAX : count);
}

uint64_t timer_left(void) { return (uint64_t)read32(apic + TIMER_CURRENT) * TIMER_NS; }

// frame is what the processor and vectors.S push at an exception.
struct frame {
	uint64_t number, code, rip, cs, rflags, rsp, ss;
};

_Noreturn void handle_exception(const struct frame *f) {
	uint64_t address;
	__asm__ volatile("mov %%cr2, %0" : "=r"(address));
	print_error("exception ");
	print_hex(f->number);
	print_error(" code ");
	print_hex(f->code);
	print_error(" rip ");
	print_hex(f->rip);
	print_error(" rsp ");
	print_hex(f->rsp);
	print_error(" cr2 ");
	print_hex(address);
	panic(", which is an error of the kernel", 0, 0);
}
