/*
 * A virtio driver in one file: it finds the device, sets it up, and sends it
 * texts. What it knows is in the specification, virtio 1.2: §3.1 (the steps of
 * initialization), §4.2 (the MMIO transport), §2.7 (the split queue).
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

/* Registers of the transport. §4.2.2 */
enum {
	MAGIC = 0x000, VERSION = 0x004, DEVICE_ID = 0x008,
	DEVICE_FEATURES_SEL = 0x014, DEVICE_FEATURES = 0x010,
	DRIVER_FEATURES_SEL = 0x024, DRIVER_FEATURES = 0x020,
	QUEUE_SEL = 0x030, QUEUE_SIZE_MAX = 0x034, QUEUE_SIZE = 0x038, QUEUE_READY = 0x044,
	QUEUE_NOTIFY = 0x050, STATUS = 0x070,
	QUEUE_DESC = 0x080, QUEUE_DRIVER = 0x090, QUEUE_DEVICE = 0x0a0, CONFIG = 0x100,
};

/* Bits of the device status. §2.1 */
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };

#define DEVICE 0xd0000000ul
#define TYPE_SHOUTER 0x4000

/* The queue. §2.7 */
enum { SIZE = 8, NEXT = 1, WRITE = 2 };

static struct { u64 addr; u32 len; u16 flags, next; } descriptors[SIZE] __attribute__((aligned(16)));
static volatile struct { u16 flags, index, ring[SIZE]; } available __attribute__((aligned(2)));
static volatile struct { u16 flags, index; struct { u32 id, len; } ring[SIZE]; } used __attribute__((aligned(4)));

static u32 get(u32 reg) { return *(volatile u32 *)(DEVICE + reg); }
static void set(u32 reg, u32 value) { *(volatile u32 *)(DEVICE + reg) = value; }
static void set64(u32 reg, const volatile void *p) { set(reg, (u64)p); set(reg + 4, (u64)p >> 32); }

static void out(u16 port, u8 value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static void print(const char *s, u32 n)
{
	while (n--)
		out(0x3f8, *s++);
}

static void end(void)
{
	for (;;)
		out(0xf4, 0);
}

static u32 length(const char *s)
{
	u32 n = 0;
	while (s[n])
		n++;
	return n;
}

/* The steps in which a driver takes a device into service. §3.1.1 */
static void set_up(void)
{
	if (get(MAGIC) != 0x74726976 || get(VERSION) != 2 || get(DEVICE_ID) != TYPE_SHOUTER)
		end();
	set(STATUS, 0); /* reset */
	set(STATUS, ACKNOWLEDGE);
	set(STATUS, ACKNOWLEDGE | DRIVER);
	set(DEVICE_FEATURES_SEL, 1);
	set(DRIVER_FEATURES_SEL, 1);
	set(DRIVER_FEATURES, get(DEVICE_FEATURES) & 1); /* bit 32: VIRTIO_F_VERSION_1 */
	set(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
	if (!(get(STATUS) & FEATURES_OK))
		end();
	set(QUEUE_SEL, 0);
	if (get(QUEUE_SIZE_MAX) < SIZE)
		end();
	set(QUEUE_SIZE, SIZE);
	set64(QUEUE_DESC, descriptors);
	set64(QUEUE_DRIVER, &available);
	set64(QUEUE_DEVICE, &used);
	set(QUEUE_READY, 1);
	set(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

/* Sends a text, waits for the answer, and shows it. */
static void shout(const char *text)
{
	static char answer[64];
	descriptors[0].addr = (u64)text;
	descriptors[0].len = length(text);
	descriptors[0].flags = NEXT;
	descriptors[0].next = 1;
	descriptors[1].addr = (u64)answer;
	descriptors[1].len = sizeof answer;
	descriptors[1].flags = WRITE;

	available.ring[available.index % SIZE] = 0; /* the chain begins there */
	/* The device must not see the index before what it leads to. §2.7.13.1.
	 * x86 keeps stores in order; the compiler has to be told. */
	asm volatile("" : : : "memory");
	u16 before = used.index;
	available.index++;
	set(QUEUE_NOTIFY, 0);
	while (used.index == before)
		asm volatile("pause" : : : "memory");
	print(answer, used.ring[before % SIZE].len);
}

/* The program begins here; the linker puts .text.start first. */
__attribute__((section(".text.start"))) void _start(void)
{
	set_up();
	shout("hello, virtio\n");
	shout("a second time, through the same descriptors\n");
	end();
}
