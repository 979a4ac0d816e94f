/*
 * A tiny kernel: it says where it is, what memory it has, takes three interrupts
 * of its timer, and switches the machine off.
 */
#include <stdint.h>

void timer_entry(void); /* start.S */

/* ---- Ports, and a console on the serial port ---- */

static void out8(uint16_t port, uint8_t v) { asm volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }

static uint8_t in8(uint16_t port)
{
	uint8_t v;
	asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

enum { COM1 = 0x3f8, LINE_STATUS = COM1 + 5, TRANSMITTER_EMPTY = 0x20 };

static void put(char c)
{
	while (!(in8(LINE_STATUS) & TRANSMITTER_EMPTY))
		;
	out8(COM1, c);
}

static void print(const char *s)
{
	while (*s)
		put(*s++);
}

static void print_hex(uint64_t v)
{
	print("0x");
	int digits = 1;
	while (digits < 16 && v >> (4 * digits))
		digits++;
	while (digits--)
		put("0123456789abcdef"[v >> (4 * digits) & 15]);
}

/* ---- What the loader says: include/xen/interface/hvm/start_info.h ---- */

struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t module_list, cmdline, rsdp, memory_map;
	uint32_t memory_entries, reserved;
};

struct memory_entry {
	uint64_t address, size;
	uint32_t type, reserved;
};

enum { START_MAGIC = 0x336ec578, RAM = 1 };

static void print_memory(const struct start_info *info)
{
	const struct memory_entry *e = (const void *)info->memory_map;
	for (uint32_t i = 0; i < info->memory_entries; i++, e++) {
		print(e->type == RAM ? "RAM       " : "reserved  ");
		print_hex(e->address);
		print(" to ");
		print_hex(e->address + e->size - 1);
		print("\n");
	}
}

/* ---- Interrupts: Intel SDM vol. 3 §6.14, §11.5.4 ---- */

struct gate {
	uint16_t offset_low, segment, flags, offset_middle;
	uint32_t offset_high, reserved;
};

enum { TIMER_VECTOR = 0x40, INTERRUPT_GATE = 0x8e00 };

static struct gate idt[256];
static volatile int ticks;

static volatile uint32_t *lapic(uint32_t reg) { return (volatile uint32_t *)(0xfee00000ul + reg); }

enum { EOI = 0xb0, SPURIOUS = 0xf0, TIMER = 0x320, INITIAL_COUNT = 0x380, DIVIDE = 0x3e0 };

/* Called by timer_entry. */
void timer(void)
{
	ticks++;
	*lapic(EOI) = 0;
}

static void start_timer(void)
{
	uint64_t handler = (uint64_t)timer_entry;
	idt[TIMER_VECTOR] = (struct gate){
		.offset_low = handler, .segment = 8, .flags = INTERRUPT_GATE,
		.offset_middle = handler >> 16, .offset_high = handler >> 32,
	};
	struct { uint16_t limit; uint64_t base; } __attribute__((packed)) pointer = { sizeof idt - 1, (uint64_t)idt };
	asm volatile("lidt %0" : : "m"(pointer));

	out8(0x21, 0xff); /* the 8259s keep quiet */
	out8(0xa1, 0xff);
	*lapic(SPURIOUS) = 0x1ff;            /* on */
	*lapic(DIVIDE) = 0xb;                /* by 1 */
	*lapic(TIMER) = 0x20000 | TIMER_VECTOR; /* periodic */
	*lapic(INITIAL_COUNT) = 1000000;
	asm volatile("sti");
}

/* ---- The machine's power, as ACPI's sleep control register: docs/architecture.md ---- */

static void power_off(void) { out8(0x600, 5 << 2 | 1 << 5); }

void main(const struct start_info *info)
{
	print("A tiny kernel, at ");
	print_hex((uint64_t)main & ~0xfffff);
	print("\n");
	if (info->magic != START_MAGIC)
		print("That is no start_info.\n");
	print("command line: ");
	print((const char *)info->cmdline);
	print("\n");
	print_memory(info);
	start_timer();
	while (ticks < 3)
		asm volatile("hlt");
	print("three interrupts later\n");
	power_off();
}
