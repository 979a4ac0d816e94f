// power.c: ACPI as far as it takes to switch off a machine whose power management
// is hardware-reduced: one write to the sleep control register. ACPI 6.5 §4.8.3.7.
//
// Its address is in a table. The value for "off" is in ACPI's own bytecode, which
// is not worth an interpreter: it is 5 in vmm (devices/power) and in QEMU (docs/
// specs/acpi_hw_reduced_hotplug.rst, hw/acpi/generic_event_device.c).
#include "power.h"

#include <stdbool.h>
#include <string.h>

#include "x86.h"

// table is the header of an ACPI table. ACPI 6.5 §5.2.6.
struct table {
	char signature[4];
	uint32_t length;
	char rest[28];
};

enum {
	RSDP_XSDT = 24,          // §5.2.5.3
	FADT_SLEEP_CONTROL = 244, // §5.2.9: a generic address of 12 bytes
	SPACE_MEMORY = 0,        // §5.2.3.2
	SPACE_IO = 1,

	SLEEP_TYPE_OFF = 5 << 2,
	SLEEP_ENABLE = 1 << 5,
};

static uint8_t space;
static uint64_t sleep_control; // 0: not known

// load reads from memory whatever the alignment.
static uint64_t load64(const char *p) {
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

// mapped reports whether start.S has mapped an address.
static bool mapped(uint64_t addr) { return addr != 0 && (addr < 1 << 30 || addr >> 30 == 3); }

void power_init(uint64_t rsdp) {
	if (!mapped(rsdp) || memcmp((const char *)rsdp, "RSD PTR ", 8) != 0)
		return;
	uint64_t xsdt_addr = load64((const char *)rsdp + RSDP_XSDT);
	if (!mapped(xsdt_addr))
		return;
	const struct table *xsdt = (const struct table *)xsdt_addr;
	for (uint32_t at = sizeof *xsdt; at + 8 <= xsdt->length; at += 8) {
		uint64_t addr = load64((const char *)xsdt + at);
		if (!mapped(addr))
			continue;
		const struct table *t = (const struct table *)addr;
		if (memcmp(t->signature, "FACP", 4) == 0 && t->length >= FADT_SLEEP_CONTROL + 12) {
			space = ((const char *)t)[FADT_SLEEP_CONTROL];
			sleep_control = load64((const char *)t + FADT_SLEEP_CONTROL + 4);
		}
	}
}

_Noreturn void power_off(void) {
	if (sleep_control != 0 && space == SPACE_IO)
		out8(sleep_control, SLEEP_TYPE_OFF | SLEEP_ENABLE);
	else if (mapped(sleep_control) && space == SPACE_MEMORY)
		write8((volatile void *)sleep_control, SLEEP_TYPE_OFF | SLEEP_ENABLE);
	crash();
}

// A fault without a table of handlers is followed by two more, and a processor
// that faults while it handles a double fault shuts down, which resets the
// machine. Intel SDM vol. 3 §6.15, "Interrupt 8".
_Noreturn void crash(void) {
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = {0};
	__asm__ volatile("lidt %0; ud2" ::"m"(none));
	__builtin_unreachable();
}
