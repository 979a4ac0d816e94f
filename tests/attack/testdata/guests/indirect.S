// Indirect tables that are the descriptor table itself, that lead into each other,
// and inside of which are more, on every queue of every device; with the feature and
// without it.
#include "guest.h"

_start:	movl $0x2f0000, %esp
	call find
	putc 'A'
again:	notl mask // without the features of devices and rings, and with them
	xorl %esi, %esi
1:	call setup
	xorl %edi, %edi
2:	cmpl queues(,%esi,4), %edi
	jae 3f
	call ring
	movl %ecx, %eax
	desc 0, 0, 128, INDIRECT, 0 // its own table
	movl %eax, (%ecx)
	desc 1, BUFFERS, 32, INDIRECT, 0
	desc 2, BUFFERS, 0xfffffff0, INDIRECT, 0
	desc 3, BUFFERS, 16, INDIRECT|NEXT, 3
	desc 4, BUFFERS, 0, INDIRECT, 0
	desc 5, BUFFERS+64, 0x10000, INDIRECT, 0
	movl $BUFFERS, %ecx
	desc 0, BUFFERS+16, 16, INDIRECT, 0 // two tables in each other
	desc 1, BUFFERS, 16, INDIRECT|WRITE, 0
	desc 4, BUFFERS+64, 0x10000, INDIRECT|NEXT, 0
	movl $0, %eax
4:	pushl %eax
	call offer
	KICK
	pause 300
	call setup // its queue may be broken
	popl %eax
	incl %eax
	cmpl $6, %eax
	jb 4b
	incl %edi
	jmp 2b
3:	incl %esi
	cmpl $DEVICES, %esi
	jb 1b
	putc '.'
	jmp again
