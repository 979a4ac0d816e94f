// virtio_pci.c: the transport by a PCI function, and the bus as far as it takes to
// find one. virtio §4.1; PCI Local Bus Specification 3.0.
//
// Functions are looked for on bus 0, through the configuration ports of a PC, at
// addresses that the monitor has chosen already.
#include "console.h"
#include "interrupts.h"
#include "virtio.h"
#include "x86.h"

enum { ADDRESS_PORT = 0xcf8, DATA_PORT = 0xcfc, ENABLE = 1u << 31, SLOTS = 32 }; // PCI §3.2.2.3.2

// Registers of the configuration space. PCI §6.1.
enum {
	ID = 0x00, // vendor and device
	COMMAND = 0x04,
	BARS = 0x10,
	CAPABILITIES = 0x34,

	MEMORY_ON = 1 << 1, // of COMMAND
	MASTER_ON = 1 << 2,
	NO_PIN = 1 << 10,
	HAS_CAPABILITIES = 1 << 20,

	VENDOR_VIRTIO = 0x1af4,
	MODERN = 0x1040, // and the type. virtio §4.1.2
	NETWORK_CARD_TRANSITIONAL = 0x1000,
};

// Capabilities, and those of virtio. PCI §6.8.2, virtio §4.1.4.
enum {
	MSIX = 0x11,
	MSIX_ON = 1u << 31, // of the first word
	MSIX_TABLE = 4,

	VENDOR = 0x09,
	COMMON = 1,
	NOTIFY = 2,
	DEVICE = 4,
	CAP_BAR = 4,
	CAP_OFFSET = 8,
	CAP_NOTIFY_STEP = 16,
};

// Registers of the common configuration. virtio §4.1.4.3.
enum {
	FEATURES_SELECT = 0x00,
	FEATURES = 0x04,
	ACCEPT_SELECT = 0x08,
	ACCEPT = 0x0c,
	CONFIG_VECTOR = 0x10,
	STATUS = 0x14,
	QUEUE_SELECT = 0x16,
	SIZE = 0x18,
	QUEUE_VECTOR = 0x1a,
	QUEUE_ENABLE = 0x1c,
	QUEUE_NOTIFY_OFF = 0x1e,
	DESCRIPTORS = 0x20,
	DRIVER_AREA = 0x28,
	DEVICE_AREA = 0x30,

	NO_VECTOR = 0xffff,
};

static uint32_t read_config(uint32_t slot, uint32_t reg) {
	out32(ADDRESS_PORT, ENABLE | slot << 11 | (reg & 0xfc));
	return in32(DATA_PORT);
}

static void write_config(uint32_t slot, uint32_t reg, uint32_t v) {
	out32(ADDRESS_PORT, ENABLE | slot << 11 | (reg & 0xfc));
	out32(DATA_PORT, v);
}

static uint32_t features(struct device *d, uint32_t word) {
	write32(d->registers + FEATURES_SELECT, word);
	return read32(d->registers + FEATURES);
}

static void accept(struct device *d, uint32_t word, uint32_t v) {
	write32(d->registers + ACCEPT_SELECT, word);
	write32(d->registers + ACCEPT, v);
}

static uint8_t status(struct device *d) { return read8(d->registers + STATUS); }
static void set_status(struct device *d, uint8_t v) { write8(d->registers + STATUS, v); }

static void set_address(volatile char *reg, void *p) {
	write32(reg, (uint64_t)p);
	write32(reg + 4, (uint64_t)p >> 32);
}

static bool set_queue(struct device *d, struct queue *q) {
	volatile char *r = d->registers;
	write16(r + CONFIG_VECTOR, NO_VECTOR);
	write16(r + QUEUE_SELECT, q->index);
	if (read16(r + SIZE) < QUEUE_SIZE)
		return false;
	write16(r + SIZE, QUEUE_SIZE);
	write16(r + QUEUE_VECTOR, 0);
	if (read16(r + QUEUE_VECTOR) != 0)
		return false; // virtio §4.1.5.1.2: refused
	set_address(r + DESCRIPTORS, &q->descriptors);
	set_address(r + DRIVER_AREA, &q->available);
	set_address(r + DEVICE_AREA, &q->used);
	q->doorbell = d->doorbells + read16(r + QUEUE_NOTIFY_OFF) * d->doorbell_step;
	write16(r + QUEUE_ENABLE, 1);
	return true;
}

// A message needs no acknowledgement.
static void acknowledge(struct device *d) { (void)d; }

static const struct transport pci = {features, accept, status, set_status, set_queue, acknowledge};

// bar returns the address that a base address register holds, or NULL where
// start.S has mapped no devices. PCI §6.2.5.1.
static volatile char *bar(uint32_t slot, uint32_t i) {
	if (i > 5)
		return NULL;
	uint32_t low = read_config(slot, BARS + 4 * i), is_port = low & 1, is_wide = low >> 1 & 2;
	if (is_port || (is_wide && i < 5 && read_config(slot, BARS + 4 * (i + 1)) != 0) || low >> 30 != 3)
		return NULL;
	return (volatile char *)(uint64_t)(low & ~15u);
}

// at returns the registers that a word of a capability leads to: a BAR, and an
// offset in it.
static volatile char *at(uint32_t slot, uint32_t bar_index, uint32_t offset) {
	volatile char *base = bar(slot, bar_index);
	return base ? base + offset : NULL;
}

// connect_message switches MSI-X on, with one message. PCI §6.8.2.
static bool connect_message(uint32_t slot, uint32_t cap, uint8_t vector) {
	uint32_t table = read_config(slot, cap + MSIX_TABLE);
	volatile char *entry = at(slot, table & 7, table & ~7u);
	if (!entry)
		return false;
	write_config(slot, cap, read_config(slot, cap) | MSIX_ON);
	write32(entry, MESSAGE_ADDRESS);
	write32(entry + 4, 0);
	write32(entry + 8, vector);
	write32(entry + 12, 0); // not masked
	return true;
}

// set_up finds the registers of a function by its capabilities.
static bool set_up(uint32_t slot, uint8_t vector, struct device *d) {
	if (!(read_config(slot, COMMAND) & HAS_CAPABILITIES))
		return false;
	write_config(slot, COMMAND, MEMORY_ON | MASTER_ON | NO_PIN);
	*d = (struct device){.transport = &pci};
	bool connected = false;
	uint32_t cap = read_config(slot, CAPABILITIES) & 0xfc;
	for (int n = 0; cap != 0 && n < 48; n++) { // no more fit, unless they form a circle
		uint32_t head = read_config(slot, cap);
		if ((head & 0xff) == MSIX) {
			connected = connect_message(slot, cap, vector);
		} else if ((head & 0xff) == VENDOR) {
			uint32_t offset = read_config(slot, cap + CAP_OFFSET);
			volatile char *registers = at(slot, read_config(slot, cap + CAP_BAR) & 0xff, offset);
			switch (head >> 24) {
			case COMMON:
				d->registers = registers;
				break;
			case NOTIFY:
				d->doorbells = registers;
				d->doorbell_step = read_config(slot, cap + CAP_NOTIFY_STEP);
				break;
			case DEVICE:
				d->config = registers;
				break;
			}
		}
		cap = head >> 8 & 0xfc;
	}
	return connected && d->registers && d->doorbells && d->config;
}

bool virtio_find_pci(uint32_t type, uint8_t vector, struct device *d) {
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		uint32_t id = read_config(slot, ID);
		bool match = id >> 16 == MODERN + type || (type == VIRTIO_NET && id >> 16 == NETWORK_CARD_TRANSITIONAL);
		if ((id & 0xffff) == VENDOR_VIRTIO && match && set_up(slot, vector, d))
			return true;
	}
	return false;
}
