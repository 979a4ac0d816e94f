// Random use of every device: most of it as drivers do, some of it not.
#include "guest.h"

_start:	movl $0x2f0000, %esp
	call find
	xorl %esi, %esi
1:	call setup
	incl %esi
	cmpl $DEVICES, %esi
	jb 1b
	putc 'A'
again:	rnd
	xorl %edx, %edx
	movl $DEVICES, %ecx
	divl %ecx
	movl %edx, %esi
	movl base(,%esi,4), %ebx
	cmpl $0, queues(,%esi,4)
	je again
	rnd
	xorl %edx, %edx
	divl queues(,%esi,4)
	movl %edx, %edi
	rnd
	andl $63, %eax
	cmpl $0, %eax
	je reset
	cmpl $1, %eax
	je poke
	cmpl $2, %eax
	je ahead
	cmpl $3, %eax
	je peek

	// Contents: a few words of the buffers.
	movl $4, %ecx
2:	rnd
	movl %eax, %edx
	andl $0xfff, %edx
	rnd
	testl $1, %eax
	jz 3f
	andl $0x1f, %eax // a number that means something, perhaps
3:	movl %eax, BUFFERS(,%edx,4)
	decl %ecx
	jnz 2b

	// A chain of 1 to 4 descriptors: readable ones, then writable ones.
	rnd
	andl $0x7f, %eax
	pushl %eax // head
	movl %eax, %ebp
	rnd
	andl $3, %eax
	movl %eax, left
4:	call ring
	movl %ebp, %eax
	shll $4, %eax
	addl %eax, %ecx
	rnd
	andl $0x3ff0, %eax
	addl $BUFFERS, %eax
	movl %eax, (%ecx)
	movl $0, 4(%ecx)
	rnd
	movl %eax, %edx
	rnd
	andl $15, %eax
	andl lengths(,%eax,4), %edx
	movl %edx, 8(%ecx)
	rnd
	andl $63, %eax
	jnz 5f
	rnd // an address where there is nothing
	orl $0x4000000, %eax
	movl %eax, (%ecx)
5:	rnd
	andl $WRITE, %eax
	cmpl $0, left
	je 6f
	orl $NEXT, %eax
6:	movl %eax, %edx
	rnd
	andl $255, %eax
	jnz 7f
	xorl $INDIRECT, %edx
7:	incl %ebp
	movl %ebp, %eax
	shll $16, %eax
	orl %edx, %eax
	movl %eax, 12(%ecx)
	decl left
	jns 4b
	popl %eax
	call offer
	KICK
	incl count
	testl $0x3f, count
	jnz again
	putc '.'
	jmp again

reset:	rnd
	andl $3, %eax
	jnz again
	call setup
	jmp again
poke:	rnd // a register
	movl %eax, %edx
	andl $WINDOW-1, %edx
	rnd
	movl %eax, (%ebx,%edx)
	rnd
	andl $1, %eax
	jz again
	call setup
	jmp again
peek:	rnd
	andl $WINDOW-1, %eax
	movl (%ebx,%eax), %edx
	jmp again
ahead:	call ring
	rnd
	addw %ax, AVAIL+2(%ecx)
	KICK
	pause 100
	call setup
	jmp again

	.data
	.align 4
left:	.long 0
count:	.long 0
lengths: .long 0xf, 0xff, 0xff, 0xff, 0xfff, 0xfff, 0xfff, 0x1ff, 0x1ff, 0x1ff, 0xffff, 0x3f, 0x3f, 0xfff, 0xffffff, 0xfff
	.text
