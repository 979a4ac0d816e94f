// Every queue of every device is filled with the longest chains that there are, again
// and again, as fast as the device gives them back.
#include "guest.h"

_start:	movl $0x2f0000, %esp
	call find
	xorl %esi, %esi
1:	call setup
	xorl %edi, %edi
2:	cmpl queues(,%esi,4), %edi
	jae 3f
	call ring
	// Chain i begins with descriptor i and ends with the table.
	movl 4(%edx), %edx
	decl %edx
	xorl %eax, %eax
4:	movl $BUFFERS, (%ecx)
	movl $0, 4(%ecx)
	movl $LENGTH, 8(%ecx)
	incl %eax
	pushl %eax
	shll $16, %eax
	movw $NEXT|KIND, %ax
	movl %eax, 12(%ecx)
	popl %eax
	addl $16, %ecx
	cmpl %edx, %eax
	jbe 4b
	movl $KIND, -4(%ecx)
	call ring
	xorl %eax, %eax
8:	movw %ax, AVAIL+4(%ecx,%eax,2)
	incl %eax
	cmpl 4(%edx), %eax
	jb 8b
	incl %edi
	jmp 2b
3:	incl %esi
	cmpl $DEVICES, %esi
	jb 1b
	putc 'A'
again:	xorl %esi, %esi
5:	movl base(,%esi,4), %ebx
	xorl %edi, %edi
6:	cmpl queues(,%esi,4), %edi
	jae 7f
	call ring
	movl 4(%edx), %eax // as many as it has given back, and a queue more
	addw USED+2(%ecx), %ax
	movw %ax, AVAIL+2(%ecx)
	KICK
	incl %edi
	jmp 6b
7:	incl %esi
	cmpl $DEVICES, %esi
	jb 5b
	putc '.'
	jmp again
