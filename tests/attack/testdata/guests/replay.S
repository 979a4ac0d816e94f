// The same heads again and again while the device has them: the available index runs
// ahead of what was given back, on every queue of every device. 'R' is for a device that
// asks for a reset.
#include "guest.h"

_start:	movl $0x2f0000, %esp
	call find
	putc 'A'
again:	xorl %esi, %esi
1:	call setup
	xorl %edi, %edi
2:	cmpl queues(,%esi,4), %edi
	jae 3f
	call ring
	desc 0, BUFFERS, 16, NEXT, 1 // a disk takes it for a read
	desc 1, BUFFERS+0x1000, 4096, NEXT|WRITE, 2
	desc 2, BUFFERS+0x2000, 1, WRITE, 0
	movl $0, BUFFERS
	movl $0, BUFFERS+8
	movl $300, %eax
	movw %ax, AVAIL+2(%ecx)
	KICK
	movl $200, %edx
4:	addl $1, %eax
	movw %ax, AVAIL+2(%ecx)
	decl %edx
	jnz 4b
	KICK
	pause 200
	incl %edi
	jmp 2b
3:	pause 2000
	GET_STATUS
	testb $0x40, %al
	jz 5f
	putc 'R'
5:	incl %esi
	cmpl $DEVICES, %esi
	jb 1b
	putc '.'
	jmp again
