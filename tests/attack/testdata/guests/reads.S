// Reads a disk, block after block, until a byte comes on the serial port: then it
// switches the machine off, whatever the disk is doing.
#include "guest.h"

_start:	movl $0x2f0000, %esp
	call find
	xorl %esi, %esi
	call setup
	xorl %edi, %edi
	putc 'A'
again:	call ring
	desc 0, BUFFERS, 16, NEXT, 1
	desc 1, BUFFERS+0x1000, 4096, NEXT|WRITE, 2
	desc 2, BUFFERS+0x2000, 1, WRITE, 0
	movl $0, BUFFERS
	movl sector, %eax
	addl $8, %eax
	andl $0xfff, %eax
	movl %eax, sector
	movl %eax, BUFFERS+8
	xorl %eax, %eax
	call offer
	KICK
1:	movw $0x3fd, %dx // a byte is there
	inb %dx, %al
	testb $1, %al
	jnz 2f
	call ring
	movl (%edx), %eax
	cmpw %ax, USED+2(%ecx)
	jne 1b
	putc '.'
	jmp again
2:	movw $0x600, %dx // the sleep control register: S5
	movb $0x34, %al
	outb %al, %dx
3:	hlt
	jmp 3b

	.data
	.align 4
sector:	.long 0
