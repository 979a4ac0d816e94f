// A guest whose indirect table is the descriptor table, for the entropy device: with
// the feature accepted and without. The device must ask for a reset, take one, and
// work afterwards.
#include "guest.h"
#include "mmio.h"

main:
	start_device 8, 1 << 28
	descriptor 0, DESC, 128, 4, 0
	call offer0
	await_needs_reset
	start_device 8, 0
	descriptor 0, BUFFER, 16, 4, 0
	call offer0
	await_needs_reset
	start_device 8, 0
	descriptor 0, BUFFER, 16, 2, 0
	call offer0
1:	cmpw $1, USED + 2
	jne 1b
	exit PASSED

offer0:
	movw $0, AVAIL + 4
	movw $1, AVAIL + 2
	set 0x50, 0
	ret
