// A guest that makes a disk's read available again and again, while it is in flight or
// a moment after: its queue breaks, or it does not, and is reset each time. In the end
// the disk works.
#include "guest.h"
#include "mmio.h"

main:
	mov $20, %ebp
again:
	start_device 512, 0
	call request
	mov $300, %ebx
	movw %bx, AVAIL + 2
	set 0x50, 0
	mov $600, %edi
1:	inc %ebx
	movw %bx, AVAIL + 2
	set 0x50, 0
	dec %edi
	jnz 1b
	set STATUS, 0
2:	cmpb $0, REGS + STATUS // the reset is complete
	jne 2b
	dec %ebp
	jnz again

	start_device 512, 0
	call request
	movb $0xee, 0x231000
	movw $1, AVAIL + 2
	set 0x50, 0
3:	cmpw $1, USED + 2
	jne 3b
	cmpb $0, 0x231000
	jne 4f
	exit PASSED
4:	exit 0x11

request:
	descriptor 0, 0x230000, 16, 1, 1
	descriptor 1, BUFFER, 4096, 3, 2
	descriptor 2, 0x231000, 1, 2, 0
	movl $0, 0x230000
	movl $0, 0x230004
	movl $0, 0x230008
	movl $0, 0x23000c
	ret
