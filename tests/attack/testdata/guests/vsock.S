// Connections to a program of the host that never reads, as many as can be, with data
// on each; resets, and no buffers for the answers.
#include "guest.h"

_start:	movl $0x2f0000, %esp
	call find
	putc 'A'
again:	movl $DEVICES-1, %esi
	call setup
	movl $1, %edi // the transmit queue
	movl $20000, %ebp
1:	movw $1, BUFFERS+30 // a request
	movl $0, BUFFERS+24
	call send
	movw $5, BUFFERS+30 // data
	movl $4096, BUFFERS+24
	call send
	call send
	testl $7, %ebp
	jnz 2f
	movw $3, BUFFERS+30 // a reset
	movl $0, BUFFERS+24
	call send
2:	incl BUFFERS+16
	testl $0x3f, %ebp
	jnz 3f
	putc '.'
3:	decl %ebp
	jnz 1b
	jmp again

// send: a packet with its header at BUFFERS, by one chain. The device gives it back
// when it can; for a while.
send:	movl $5, BUFFERS // the guest's CID
	movl $2, BUFFERS+8
	movl $52, BUFFERS+20
	movw $1, BUFFERS+28
	movl $0x1000000, BUFFERS+36
	call ring
	desc 0, BUFFERS, 44+4096, 0, 0
	xorl %eax, %eax
	call offer
	KICK
	pushl %ebp
	movl $20000, %ebp
1:	call ring
	movl (%edx), %eax
	cmpw %ax, USED+2(%ecx)
	je 2f
	decl %ebp
	jnz 1b
	putc ','
	call setup
	movl $1, %edi
2:	popl %ebp
	ret
