// A 64-bit guest with a driver for a virtio source of random numbers, as others
// write them: it accepts features without a look at what is offered, does not look
// at whether the device agreed, and sets a queue's addresses with 64-bit stores. What
// it is to do is in its command line: "none" or "all" of the features; "high" has it
// put the device's registers above 4 GiB first.
//
// It is entered as Linux is, in long mode with the first 4 GiB mapped to themselves.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

enum { PASSED = 0x10, EXIT = 0xf4, QUEUE_SIZE = 4, BYTES = 32 };
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };

static void out8(u16 port, u8 v) { asm volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static void out32(u16 port, u32 v) { asm volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static u32 in32(u16 port) {
	u32 v;
	asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static void finish(u8 v) {
	out8(EXIT, v);
	for (;;)
		asm volatile("cli; hlt");
}

// Accesses of just this width.
#define REG(type, at) (*(volatile type *)(at))

// The queue, in the split format. virtio 1.2 §2.7.
static struct { u64 addr; u32 len; u16 flags, next; } desc[QUEUE_SIZE] __attribute__((aligned(4096)));
static struct { u16 flags, idx, ring[QUEUE_SIZE]; } avail __attribute__((aligned(4096)));
static volatile struct { u16 flags, idx; struct { u32 id, len; } ring[QUEUE_SIZE]; } used __attribute__((aligned(4096)));
static volatile u8 buffer[BYTES] __attribute__((aligned(64)));

// Where the guest counts requests, and is told to end.
enum { COUNT = 0x300000, DONE = 0x300008 };

// Registers of the MMIO transport, virtio 1.2 §4.2.2.
enum { MMIO = 0xc0001000u };
// Where PCI keeps what, virtio 1.2 §4.1.4; 0 for a guest on MMIO.
static u64 common, notify;
static u32 multiplier;

static u32 config(u32 device, u32 at) {
	out32(0xcf8, 1u << 31 | device << 11 | at);
	return in32(0xcfc);
}
static void set_config(u32 device, u32 at, u32 v) {
	out32(0xcf8, 1u << 31 | device << 11 | at);
	out32(0xcfc, v);
}

// above_4g maps 2 MiB at an address behind the first 4 GiB to themselves.
static u64 directory[512] __attribute__((aligned(4096)));
static void above_4g(u64 addr) {
	u64 root;
	asm volatile("mov %%cr3, %0" : "=r"(root));
	u64 *pdpt = (u64 *)(*(u64 *)root & ~0xfffUL);
	directory[addr >> 21 & 511] = (addr & ~0x1fffffUL) | 0x83;
	pdpt[addr >> 30] = (u64)directory | 3;
	asm volatile("mov %0, %%cr3" : : "r"(root) : "memory");
}

// find_pci finds the device on PCI.
static int find_pci(int high) {
	u32 device = 0;
	while (device < 32 && config(device, 0) != 0x10441af4)
		device++;
	if (device == 32)
		return 0;
	if (high) {
		const u64 at = 0x140000000;
		if ((config(device, 0x10) & 7) != 4)
			finish(2); // not one of 64 bits
		set_config(device, 0x10, (u32)at);
		set_config(device, 0x14, at >> 32);
		above_4g(at);
	}
	set_config(device, 4, 6); // memory and bus master
	u64 base = (config(device, 0x10) & ~0xfu) | (u64)config(device, 0x14) << 32;
	for (u32 at = config(device, 0x34) & 0xfc; at; at = config(device, at) >> 8 & 0xfc) {
		u32 head = config(device, at);
		if ((head & 0xff) != 9)
			continue;
		u64 where = base + config(device, at + 8);
		if (head >> 24 == 1)
			common = where;
		if (head >> 24 == 2) {
			notify = where;
			multiplier = config(device, at + 16);
		}
	}
	return 1;
}

static void set_status(u8 v) {
	if (common)
		REG(u8, common + 20) = v;
	else
		REG(u32, MMIO + 0x70) = v;
}

static void accept(u32 features) {
	for (u32 half = 0; half < 2; half++) {
		REG(u32, common ? common + 8 : MMIO + 0x24) = half;
		REG(u32, common ? common + 12 : MMIO + 0x20) = features;
	}
}

static void set_queue(void) {
	if (common) {
		REG(u16, common + 22) = 0;
		REG(u16, common + 24) = QUEUE_SIZE;
		REG(u64, common + 32) = (u64)desc;
		REG(u64, common + 40) = (u64)&avail;
		REG(u64, common + 48) = (u64)&used;
		REG(u16, common + 28) = 1;
		return;
	}
	REG(u32, MMIO + 0x30) = 0;
	REG(u32, MMIO + 0x38) = QUEUE_SIZE;
	REG(u64, MMIO + 0x80) = (u64)desc;
	REG(u64, MMIO + 0x90) = (u64)&avail;
	REG(u64, MMIO + 0xa0) = (u64)&used;
	REG(u32, MMIO + 0x44) = 1;
}

static int has(const char *line, const char *word) {
	for (; *line; line++) {
		int i = 0;
		while (word[i] && line[i] == word[i])
			i++;
		if (!word[i])
			return 1;
	}
	return 0;
}

void run(const u8 *zero_page) {
	const char *line = (const char *)(u64)*(const u32 *)(zero_page + 0x228);
	if (!find_pci(has(line, "high")) && REG(u32, MMIO + 8) != 4)
		finish(1); // no device
	set_status(0);
	set_status(ACKNOWLEDGE);
	set_status(ACKNOWLEDGE | DRIVER);
	accept(has(line, "all") ? ~0u : 0);
	set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
	set_queue();
	set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
	desc[0].addr = (u64)buffer;
	desc[0].len = BYTES;
	desc[0].flags = 2; // the device writes
	u64 doorbell = common ? notify + REG(u16, common + 30) * multiplier : MMIO + 0x50;
	// One request, or with "endless" one after the other, until somebody writes to DONE.
	do {
		asm volatile("" : : : "memory");
		avail.idx++;
		asm volatile("mfence" : : : "memory");
		if (common)
			REG(u16, doorbell) = 0;
		else
			REG(u32, doorbell) = 0;
		while (used.idx != avail.idx)
			;
		REG(u64, COUNT)++;
	} while (has(line, "endless") && !REG(u32, DONE));
	u8 any = 0;
	for (int i = 0; i < BYTES; i++)
		any |= buffer[i];
	finish(used.ring[0].len == BYTES && any ? PASSED : 3);
}

asm(".globl start\nstart:\n\tmov %rsi, %rdi\n\tcall run");
