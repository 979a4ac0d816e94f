// A guest that puts the registers of PCI device 1 over RAM, and over those of device 2,
// and looks by the device status which are there. Device 2 is an entropy device, whose
// doorbell rings in the end.
#include "guest.h"

#define ECAM 0xe0000000

	.macro config slot, reg, val
	movl $\val, ECAM + (\slot << 15) + \reg
	.endm

main:
	// Over RAM: RAM is there, and the device is not.
	mov $3, %bl
	movl $0x5aa55aa5, 0x300014
	config 1, 4, 0
	config 1, 0x10, 0x300000
	config 1, 0x14, 0
	config 1, 4, 6
	cmpl $0x5aa55aa5, 0x300014
	jne failed
	movb $0, 0x300014
	cmpl $0x5aa55a00, 0x300014
	jne failed

	// Over the other's: one of them answers, and each does once they are apart.
	config 1, 0x10, 0xd0100000
	config 2, 4, 6
	config 2, 0x10, 0xd0100000
	mov $4, %bl
	cmpb $0xff, 0xd0100014
	je failed
	config 2, 0x10, 0xd0200000
	mov $5, %bl
	movb $0, 0xd0100014
	movb $0, 0xd0200014
	movb $3, 0xd0200014
	cmpb $0, 0xd0100014
	jne failed
	cmpb $3, 0xd0200014
	jne failed
	config 1, 0x10, 0xd0200000
	config 1, 0x10, 0xd0300000

	// And its doorbell rings: queue 0 of device 2, with one buffer.
	mov $6, %bl
	movb $11, 0xd0200014
	movw $0, 0xd0200016
	movw $8, 0xd0200018
	movl $0x200000, 0xd0200020
	movl $0x210000, 0xd0200028
	movl $0x220000, 0xd0200030
	movw $1, 0xd020001c
	movl $0x240000, 0x200000
	movl $16, 0x200008
	movl $2, 0x20000c
	movl $0, 0x220000
	movl $0x10000, 0x210000
	movw $0, 0x210004
	movb $15, 0xd0200014
	movw $0, 0xd0203000
1:	cmpw $1, 0x220002
	jne 1b
	exit PASSED

failed:
	mov %bl, %al
	out %al, $EXIT
	cli
	hlt
