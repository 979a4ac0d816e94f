// virtio_mmio.c: the transport by registers in memory. virtio §4.2.
//
// A device that nothing describes cannot be found. Monitors describe it with the
// word that Linux has for this, virtio_mmio.device=SIZE@BASE:INTERRUPT
// (Documentation/admin-guide/kernel-parameters.txt): vmm and QEMU's microvm add
// it to the command line of a kernel that does not use ACPI, whose tables would
// say the same in bytecode.
#include "cmdline.h"
#include "console.h"
#include "interrupts.h"
#include "virtio.h"
#include "x86.h"

// Registers. virtio §4.2.2.
enum {
	MAGIC = 0x000,
	VERSION = 0x004,
	DEVICE_ID = 0x008,
	FEATURES = 0x010,
	FEATURES_SELECT = 0x014,
	ACCEPT = 0x020,
	ACCEPT_SELECT = 0x024,
	QUEUE_SELECT = 0x030,
	QUEUE_SIZE_MAX = 0x034,
	SIZE = 0x038,
	QUEUE_READY = 0x044,
	QUEUE_NOTIFY = 0x050,
	INTERRUPT_STATUS = 0x060,
	INTERRUPT_ACK = 0x064,
	STATUS = 0x070,
	DESCRIPTORS = 0x080, // low half, then high half
	DRIVER_AREA = 0x090,
	DEVICE_AREA = 0x0a0,
	CONFIG = 0x100,
};

static uint32_t features(struct device *d, uint32_t word) {
	write32(d->registers + FEATURES_SELECT, word);
	return read32(d->registers + FEATURES);
}

static void accept(struct device *d, uint32_t word, uint32_t v) {
	write32(d->registers + ACCEPT_SELECT, word);
	write32(d->registers + ACCEPT, v);
}

static uint8_t status(struct device *d) { return read32(d->registers + STATUS); }
static void set_status(struct device *d, uint8_t v) { write32(d->registers + STATUS, v); }

static void set_address(volatile char *reg, void *p) {
	write32(reg, (uint64_t)p);
	write32(reg + 4, (uint64_t)p >> 32);
}

static bool set_queue(struct device *d, struct queue *q) {
	write32(d->registers + QUEUE_SELECT, q->index);
	if (read32(d->registers + QUEUE_SIZE_MAX) < QUEUE_SIZE)
		return false;
	write32(d->registers + SIZE, QUEUE_SIZE);
	set_address(d->registers + DESCRIPTORS, &q->descriptors);
	set_address(d->registers + DRIVER_AREA, &q->available);
	set_address(d->registers + DEVICE_AREA, &q->used);
	q->doorbell = d->registers + QUEUE_NOTIFY;
	write32(d->registers + QUEUE_READY, 1);
	return true;
}

static void acknowledge(struct device *d) {
	write32(d->registers + INTERRUPT_ACK, read32(d->registers + INTERRUPT_STATUS));
}

static const struct transport mmio = {features, accept, status, set_status, set_queue, acknowledge};

// parse reads SIZE@BASE:INTERRUPT; the size does not matter.
static bool parse(const char *word, uint64_t *base, uint64_t *interrupt) {
	uint64_t size;
	if (!parse_number(&word, &size))
		return false;
	if (*word == 'K')
		word++;
	return *word++ == '@' && parse_number(&word, base) && *word++ == ':' && parse_number(&word, interrupt);
}

bool virtio_find_mmio(uint32_t type, uint8_t vector, struct device *d) {
	size_t at = 0;
	const char *word;
	while ((word = cmdline_value("virtio_mmio.device=", &at))) {
		uint64_t base, interrupt;
		if (!parse(word, &base, &interrupt) || base >> 30 != 3)
			continue; // not where start.S has mapped devices
		volatile char *registers = (volatile char *)base;
		if (read32(registers + MAGIC) != 0x74726976 || read32(registers + DEVICE_ID) != type)
			continue;
		if (read32(registers + VERSION) != 2)
			panic("a legacy virtio device; QEMU makes a modern one with -global virtio-mmio.force-legacy=false", 0, 0);
		if (!connect_interrupt(interrupt, vector))
			continue;
		*d = (struct device){.transport = &mmio, .registers = registers, .config = registers + CONFIG};
		return true;
	}
	return false;
}
