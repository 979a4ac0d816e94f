// A kernel that is full of what looks like the symbols of a kernel, and are none: TABLES
// is a file of their tables.
#include "guest.h"

_start:	movl $0x2f0000, %esp
	putc 'A'
1:	pause 20000
	putc '.'
	jmp 1b

	.data
	.align 4096
	.incbin TABLES
	.text
