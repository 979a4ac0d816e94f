// A guest that makes its devices hold as much as it can: every queue of every
// virtio device is full of the longest chains, of the smallest or the largest
// pieces, and never emptied. Then it resets them all, and does it again with
// chains of another shape. It runs in protected mode without paging, as PVH
// has it, and has no stack but the one below.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define DEVICES  0xc0001000u // virtio-mmio, a page each
#define MAXIMUM  18
#define RINGS    0x00800000u // where rings are put
#define RINGSEND 0x03800000u
#define HEADER   0x00700000u
#define DATA     0x03800000u // what devices read and write

enum { MAGIC = 0, ID = 8, ACCEPT = 0x20, ACCEPTSEL = 0x24, FEATURES = 0x10, FEATURESEL = 0x14, QSEL = 0x30, QMAX = 0x34, QSIZE = 0x38,
       QREADY = 0x44, QNOTIFY = 0x50, STATUS = 0x70, DESC = 0x80, AVAIL = 0x90, USED = 0xa0 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };
enum { NET = 1, BLOCK = 2, P9 = 9, VSOCK = 19 };

struct desc { u32 addr, high, len; u16 flags, next; };

static u32 get(u32 base, u32 reg) { return *(volatile u32 *)(base + reg); }
static void set(u32 base, u32 reg, u32 v) { *(volatile u32 *)(base + reg) = v; }
static void out(u16 port, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }

// table fills an indirect table with n pieces, the first reads of which are for the
// device to read.
static void table(struct desc *t, u32 n, u32 reads, u32 addr, u32 len) {
	for (u32 i = 0; i < n; i++)
		t[i] = (struct desc){addr, 0, len, (i < n - 1 ? NEXT : 0) | (i < reads ? 0 : WRITE), i + 1};
}

// chain makes the table of a device's queue for a round, and says how long it is.
// Lengths are in descriptors.
static u32 chain(struct desc *t, u32 id, u32 queue, u32 max, u32 round) {
	u32 small = round & 1, n = max;
	if (id == BLOCK) { // a read or a write, a byte for its status
		n = max < 512 ? max : 512;
		u32 write = round >> 1 & 1;
		table(t, n, write ? n - 1 : 1, DATA + (round & 4 ? 4 : 0), small ? 512 : 4096);
		t[0].addr = HEADER;
		t[0].len = 16;
		*(u32 *)HEADER = write;
		t[n - 1].len = 1;
	} else if (id == P9) { // a message of nonsense, and room for the answer
		table(t, n, n / 2, DATA, small ? 1 : 4096);
	} else if (id == NET || id == VSOCK) {
		table(t, n, queue & 1 ? n : 0, DATA, small ? 1 : 4096);
	} else {
		table(t, n, round >> 1 & 1 ? n : 0, DATA, small ? 8 : 4096);
	}
	return n;
}

static void flood(u32 base, u32 *memory, u32 round) {
	u32 id = get(base, ID), at = *memory;
	set(base, STATUS, 1);
	set(base, STATUS, 3);
	set(base, FEATURESEL, 0);
	u32 features = get(base, FEATURES);
	set(base, ACCEPTSEL, 0);
	set(base, ACCEPT, features & ~(1u << 29)); // without event indices
	set(base, ACCEPTSEL, 1);
	set(base, ACCEPT, 1);
	set(base, STATUS, 11);
	u32 queues = 0, length[2];
	struct desc *tables[2]; // of queues with even and odd numbers
	for (;; queues++) {
		set(base, QSEL, queues);
		u32 size = get(base, QMAX);
		if (!size || at + 64 * 1024 > RINGSEND)
			break;
		struct desc *desc = (void *)at;
		u16 *avail = (void *)(at + 16 * size);
		u32 used = (at + 18 * size + 6 + 15) & ~15u;
		u32 odd = queues & 1;
		at = (used + 8 * size + 6 + 15) & ~15u;
		if (queues < 2) {
			tables[odd] = (void *)at;
			length[odd] = chain(tables[odd], id, queues, size, round);
			at += 16 * length[odd];
		}
		for (u32 i = 0; i < size; i++) {
			desc[i] = (struct desc){(u32)tables[odd], 0, 16 * length[odd], INDIRECT, 0};
			avail[2 + i] = i;
		}
		*(volatile u32 *)used = 0;
		avail[0] = 0;
		avail[1] = size;
		set(base, QSIZE, size);
		set(base, DESC, at), set(base, DESC + 4, 0);
		set(base, AVAIL, (u32)avail), set(base, AVAIL + 4, 0);
		set(base, USED, used), set(base, USED + 4, 0);
		set(base, QREADY, 1);
		at = (at + 4095) & ~4095u;
	}
	*memory = at;
	set(base, STATUS, 15);
	for (u32 i = 0; i < queues; i++)
		set(base, QNOTIFY, i);
}

void start(void) {
	for (u32 round = 0;; round++) {
		u32 memory = RINGS;
		for (u32 i = 0; i < MAXIMUM; i++) {
			u32 base = DEVICES + i * 0x1000;
			if (get(base, MAGIC) == 0x74726976)
				flood(base, &memory, round);
		}
		out(0x3f8, '0' + round % 10);
		for (volatile u32 wait = 0; wait < 40000; wait++)
			;
		for (u32 i = 0; i < MAXIMUM; i++)
			if (get(DEVICES + i * 0x1000, MAGIC) == 0x74726976)
				set(DEVICES + i * 0x1000, STATUS, 0);
	}
}

__asm__(".section .note.pvh,\"a\",@note\n"
	".align 4\n"
	".long 4, 4, 18\n"
	".asciz \"Xen\"\n"
	".long entry\n"
	".section .text\n"
	".globl entry\n"
	"entry: mov $0x700000, %esp\n"
	"call start\n");
