// What the hostile guests share: the way in, the serial port, and a driver for
// virtio devices behind either transport, without a kernel around it. Each guest is
// assembled once for each transport: with PCI defined, or without for MMIO. DEVICES
// is how many virtio devices there are, SEED begins the random numbers.

#ifndef DEVICES
#define DEVICES 1
#endif
#ifndef SEED
#define SEED 1
#endif

// The way in: PVH. xen/include/public/arch-x86/hvm/start_info.h, XEN_ELFNOTE_PHYS32_ENTRY.
	.section .note.pvh, "a", @note
	.align 4
	.long 4, 4, 18
	.asciz "Xen"
	.long _start

	.text
	.code32
	.globl _start

// Guest memory. A queue has its descriptors, and behind them its rings.
#define BUFFERS 0x300000
#define RINGS 0x400000
#define RING_SIZE 0x8000
#define AVAIL 0x1000
#define USED 0x2000
#define QUEUES 8

// Flags of descriptors, and features. virtio 1.2 §2.7.5, §6.
#define NEXT 1
#define WRITE 2
#define INDIRECT 4

	.macro putc c
	movw $0x3f8, %dx
	movb $\c, %al
	outb %al, %dx
	.endm

// rnd: a random number in %eax, by Marsaglia's xorshift.
	.macro rnd
	pushl %edx
	movl seed, %eax
	movl %eax, %edx
	shll $13, %edx
	xorl %edx, %eax
	movl %eax, %edx
	shrl $17, %edx
	xorl %edx, %eax
	movl %eax, %edx
	shll $5, %edx
	xorl %edx, %eax
	movl %eax, seed
	popl %edx
	.endm

// desc: descriptor \i of the queue whose memory is at %ecx.
	.macro desc i, addr, len, flags, next
	movl $\addr, 16*\i(%ecx)
	movl $0, 16*\i+4(%ecx)
	movl $\len, 16*\i+8(%ecx)
	movl $(\flags) | \next << 16, 16*\i+12(%ecx)
	.endm

// pause: n turns of nothing.
	.macro pause n
	movl $\n, %eax
9:	decl %eax
	jnz 9b
	.endm

#ifdef PCI
// virtio 1.2 §4.1: the common configuration at the start of the BAR, doorbells of
// 4 bytes each at 0x3000.
#define STATUS(v) movb $v, 0x14(%ebx)
#define GET_STATUS movb 0x14(%ebx), %al
#define SELECT movw %di, 0x16(%ebx)
#define GET_SIZE movzwl 0x18(%ebx), %eax
#define SET_SIZE movw %ax, 0x18(%ebx)
#define SET_DESC movl %eax, 0x20(%ebx); movl $0, 0x24(%ebx)
#define SET_AVAIL movl %eax, 0x28(%ebx); movl $0, 0x2c(%ebx)
#define SET_USED movl %eax, 0x30(%ebx); movl $0, 0x34(%ebx)
#define ENABLE movw $1, 0x1c(%ebx)
#define KICK movw %di, 0x3000(%ebx,%edi,4)
#define OFFERED movl %edx, (%ebx); movl 4(%ebx), %eax
#define ACCEPT movl %edx, 8(%ebx); movl %eax, 12(%ebx)
#define WINDOW 0x8000
#else
// virtio 1.2 §4.2.2.
#define STATUS(v) movl $v, 0x70(%ebx)
#define GET_STATUS movl 0x70(%ebx), %eax
#define SELECT movl %edi, 0x30(%ebx)
#define GET_SIZE movl 0x34(%ebx), %eax
#define SET_SIZE movl %eax, 0x38(%ebx)
#define SET_DESC movl %eax, 0x80(%ebx); movl $0, 0x84(%ebx)
#define SET_AVAIL movl %eax, 0x90(%ebx); movl $0, 0x94(%ebx)
#define SET_USED movl %eax, 0xa0(%ebx); movl $0, 0xa4(%ebx)
#define ENABLE movl $1, 0x44(%ebx)
#define KICK movl %edi, 0x50(%ebx)
#define OFFERED movl %edx, 0x14(%ebx); movl 0x10(%ebx), %eax
#define ACCEPT movl %edx, 0x24(%ebx); movl %eax, 0x20(%ebx)
#define WINDOW 0x1000
#endif

	jmp _start

// find: notes where the registers of each device are.
find:	xorl %esi, %esi
1:	movl %esi, %eax
#ifdef PCI
	incl %eax // the first is the host bridge
	shll $15, %eax
	movl 0xe0000010(%eax), %edx
	andl $0xfffffff0, %edx
	movw $6, 0xe0000004(%eax) // memory, bus master
	movl %edx, base(,%esi,4)
#else
	shll $12, %eax
	addl $0xc0001000, %eax
	movl %eax, base(,%esi,4)
#endif
	incl %esi
	cmpl $DEVICES, %esi
	jb 1b
	ret

// setup: initializes device %esi with all of its features and queues, as a driver
// does. It returns its registers in %ebx.
setup:	movl base(,%esi,4), %ebx
	STATUS(0)
	STATUS(1)
	STATUS(3)
	xorl %edx, %edx
1:	OFFERED
	andl mask(,%edx,4), %eax
	ACCEPT
	incl %edx
	cmpl $2, %edx
	jb 1b
	STATUS(11)
	xorl %edi, %edi
2:	SELECT
	GET_SIZE
	testl %eax, %eax
	jz 4f
	cmpl $32768, %eax
	ja 4f
	cmpl $256, %eax
	jbe 3f
	movl $256, %eax
3:	SET_SIZE
	call ring
	movl %eax, 4(%edx)
	movl $0, (%edx)
	movl $0, AVAIL(%ecx)
	movl $0, USED(%ecx)
	movl %ecx, %eax
	SET_DESC
	addl $AVAIL, %eax
	SET_AVAIL
	addl $USED-AVAIL, %eax
	SET_USED
	ENABLE
	incl %edi
	cmpl $QUEUES, %edi
	jb 2b
4:	movl %edi, queues(,%esi,4)
	STATUS(15)
	ret

// ring: the memory of queue %edi of device %esi in %ecx, and in %edx where its next
// available index and its size are noted.
ring:	leal (%edi,%esi,8), %ecx
	leal state(,%ecx,8), %edx
	shll $15, %ecx
	addl $RINGS, %ecx
	ret

// offer: makes chain %ax of queue %edi of device %esi available.
offer:	call ring
	pushl %edx
	pushl %ebp
	movl 4(%edx), %ebp
	decl %ebp
	movl (%edx), %edx
	andl %edx, %ebp
	movw %ax, AVAIL+4(%ecx,%ebp,2)
	popl %ebp
	incl %edx
	movw %dx, AVAIL+2(%ecx)
	movl %edx, %eax
	popl %edx
	movl %eax, (%edx)
	ret

// bye: the guest ends by itself.
bye:	putc 'Z'
	movb $0xfe, %al
	outb %al, $0x64
1:	hlt
	jmp 1b

	.data
	.align 4
seed:	.long SEED
mask:	.long ~0, ~0 // of the features to accept
base:	.fill 16, 4, 0
queues:	.fill 16, 4, 0
state:	.fill 16*QUEUES, 8, 0
	.text
