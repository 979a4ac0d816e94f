// Whatever makes the monitor say something, as often as can be: boot markers, the
// exit port, unclaimed ports and memory, queues that break, registers that move.
#include "guest.h"

_start:	movl $0x2f0000, %esp
	call find
	putc 'A'
again:	movl $200, %ecx
1:	movb %cl, %al
	outb %al, $0x80
	outl %eax, $0xed
	movw $0x505, %dx
	movb $0, %al
	outb %al, %dx
	movw $0x600, %dx
	inb %dx, %al
	movl $0xd8000000, %eax
	movl %eax, (%eax)
	decl %ecx
	jnz 1b
	xorl %esi, %esi
	call setup
	xorl %edi, %edi
	call ring
	desc 0, 0xfff00000, 4096, NEXT, 0xffff
	movw $0x7fff, AVAIL+2(%ecx)
	KICK
#ifdef PCI
	movl $0xe0000000+(1<<15), %edx
	movl $0xd0700000, 0x10(%edx)
	movl $0x00100000, 0x10(%edx)
	movl base, %eax
	movl %eax, 0x10(%edx)
#endif
	putc '.'
	jmp again
