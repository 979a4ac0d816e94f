// What guests that misuse virtio devices share: the first device of the MMIO
// transport, with its queue 0 of N descriptors at DESC, AVAIL and USED.
#define REGS 0xc0001000
#define DESC 0x200000
#define AVAIL 0x210000
#define USED 0x220000
#define BUFFER 0x240000

#define STATUS 0x70
#define NEEDS_RESET 0x40

	.macro set reg, val
	movl $\val, REGS + \reg
	.endm

	// Takes the device to DRIVER_OK; features are the low word.
	.macro start_device n, features
	set STATUS, 0
	set STATUS, 3
	set 0x24, 1
	set 0x20, 1
	set 0x24, 0
	set 0x20, \features
	set STATUS, 11
	set 0x30, 0
	set 0x38, \n
	set 0x80, DESC
	set 0x84, 0
	set 0x90, AVAIL
	set 0x94, 0
	set 0xa0, USED
	set 0xa4, 0
	set 0x44, 1
	movl $0, AVAIL
	movl $0, USED
	set STATUS, 15
	.endm

	.macro descriptor i, addr, len, flags, next
	movl $\addr, DESC + 16 * \i
	movl $0, DESC + 16 * \i + 4
	movl $\len, DESC + 16 * \i + 8
	movl $(\flags | \next << 16), DESC + 16 * \i + 12
	.endm

	// Waits until the device asks for a reset.
	.macro await_needs_reset
99:	testb $NEEDS_RESET, REGS + STATUS
	jz 99b
	.endm
