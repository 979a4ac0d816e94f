// PCI registers over each other, over RAM, over the APICs, on and off, with doorbells
// and interrupts in use.
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
	incl %edx
	shll $15, %edx
	addl $0xe0000000, %edx
	rnd
	andl $3, %eax
	addl %eax, %eax
	movw %ax, 4(%edx) // decoding on or off
	rnd
	andl $15, %eax
	movl places(,%eax,4), %eax
	movl %eax, 0x10(%edx)
	rnd
	andl $7, %eax
	jnz 2f
	movl $1, 0x14(%edx) // above 4 GiB
2:	movl $0, 0x14(%edx)
	movw $6, 4(%edx)
	movl 0x10(%edx), %ebx
	andl $0xfffffff0, %ebx
	cmpl $0xd0000000, %ebx
	jb 3f
	cmpl $0xe0000000, %ebx
	jae 3f
	rnd
	andl $0x1f, %eax
	movw %ax, 0x3000(%ebx,%eax) // a doorbell, aligned or not
	rnd
	movl %eax, %ecx
	andl $7, %ecx
	shll $4, %ecx
	rnd
	movl %eax, 0x4000(%ebx,%ecx) // an MSI-X entry
	movl %eax, 0x4004(%ebx,%ecx)
	movl %eax, 0x4008(%ebx,%ecx)
	andl $1, %eax
	movl %eax, 0x400c(%ebx,%ecx)
	rnd
	andl $15, %eax
	movb %al, 0x14(%ebx)
3:	incl count
	testl $0x3f, count
	jnz again
	movl base(,%esi,4), %eax // and back, where it works as before
	movl %eax, 0x10(%edx)
	call setup
	putc '.'
	jmp again

	.data
	.align 4
count:	.long 0
places:	.long 0xd0000000, 0xd0008000, 0xd0010000, 0x00100000, 0xfee00000, 0xfec00000, 0xe0000000, 0
	.long 0xfffb8000, 0xffff8000, 0xd0018000, 0xdfff8000, 0x03ff8000, 0x80000000, 0xd0000000, 0xd0008000
	.text
