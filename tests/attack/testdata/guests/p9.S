// A 9P client without manners: messages that wait for themselves and for each other,
// new versions beside reads, messages that end too early, opens, locks, names and
// modes. Each must be answered, whatever the answer is; '!' says that one was not.
#include "guest.h"

	.macro string s:vararg
	.word 8f-7f
7:	.ascii \s
8:
	.endm

	.macro begin type, tag
	.long 6f-5f // for the descriptor
5:	.long 6f-5b
	.byte \type
	.word \tag
	.endm

	.macro end
6:
	.endm

_start:	movl $0x2f0000, %esp
	call find
	putc 'A'
	movl $DEVICES-1, %esi
	call setup
again:	movl $batches, %ebp
1:	movl (%ebp), %eax
	testl %eax, %eax
	jz 9f
	call batch
	addl $4, %ebp
	jmp 1b
9:	putc '.'
	jmp again

// batch: offers the messages of the list at %eax all at once, and waits for the
// answers.
batch:	pushl %ebp
	movl %eax, %ebp
	xorl %edi, %edi
	call ring
	movw USED+2(%ecx), %ax
	movw %ax, AVAIL+2(%ecx)
	movzwl %ax, %eax
	movl %eax, (%edx)
	xorl %edx, %edx // the slot
1:	movl (%ebp), %eax
	testl %eax, %eax
	jz 2f
	movl %edx, %ecx
	shll $5, %ecx
	addl $RINGS+0x40000*(DEVICES-1), %ecx
	pushl %eax
	addl $4, %eax
	movl %eax, (%ecx)
	movl $0, 4(%ecx)
	popl %eax
	movl (%eax), %eax
	movl %eax, 8(%ecx)
	leal 1(%edx,%edx), %eax
	shll $16, %eax
	orl $NEXT, %eax
	movl %eax, 12(%ecx)
	movl %edx, %eax
	shll $13, %eax
	addl $0x800000, %eax
	movl %eax, 16(%ecx)
	movl $0, 20(%ecx)
	movl $8192, 24(%ecx)
	movl $WRITE, 28(%ecx)
	pushl %edx
	leal (%edx,%edx), %eax
	call offer
	popl %edx
	incl %edx
	addl $4, %ebp
	jmp 1b
2:	KICK
	movl $2000000, %ebp
3:	call ring
	movl (%edx), %eax
	cmpw %ax, USED+2(%ecx)
	je 4f
	decl %ebp
	jnz 3b
	putc '!'
	call setup
4:	popl %ebp
	ret

	.data
	.align 4
version: begin 100, 0xffff
	.long 8192
	string "9P2000.L"
	end
attach:	begin 104, 1
	.long 0, 0xffffffff
	string "root"
	string ""
	.long 0
	end
	.macro walk name, tag, fid, to:vararg
\name:	begin 110, \tag
	.long 0, \fid
	.word 1
	string \to
	end
	.endm
	walk walkA, 2, 1, "a"
	walk walkUp, 3, 2, ".."
	walk walkSlash, 4, 3, "/etc"
	walk walkDeep, 5, 4, "a/b"
	walk walkNul, 6, 5, "a\0b"
	walk walkEmpty, 7, 6, ""
	.set i, 1
	.irp n, 1,2,3,4,5,6,7,8
open\n:	begin 12, 0x20+\n
	.long 1, 2
	end
read\n:	begin 116, 0x30+\n
	.long 1, 0, 0, 8000
	end
lock\n:	begin 52, 0x40+\n
	.long 1
	.byte 0
	.long 0
	.quad 2*\n, 1
	.long \n
	string "guest"
	end
node\n:	begin 18, 0x50+\n
	.long 0
	string "node\n"
	.long 0106755, 1, 3, 0
	end
device\n: begin 18, 0x60+\n
	.long 0
	string "device\n"
	.long 0020666, 1, 3, 0
	end
unlink\n: begin 76, 0x70+\n
	.long 0
	string "missing\n"
	.long 0
	end
	.endr
flush5:	begin 108, 5
	.word 5
	end
flush6:	begin 108, 6
	.word 7
	end
flush7:	begin 108, 7
	.word 6
	end
flushR:	begin 108, 8
	.word 0x31
	end
short1:	.long 7, 7
	.byte 110
	.word 9
short2:	.long 4, 4
short3:	.long 4, 0
short4:	.long 8, 8
	.byte 104
	.word 10
	.byte 0
long1:	.long 8, 0x7fffffff
	.byte 116
	.word 11
	.byte 0
	.align 4
b0:	.long version, 0
b1:	.long attach, 0
b2:	.long walkA, walkUp, walkSlash, walkDeep, walkNul, walkEmpty, 0
b3:	.long open1, open2, open3, open4, open5, open6, open7, open8, 0
b4:	.long flush5, 0
b5:	.long flush6, flush7, 0
b6:	.long read1, read2, read3, read4, flushR, version, read5, read6, version, read7, read8, 0
b7:	.long short1, short2, short3, short4, long1, 0
b8:	.long node1, node2, node3, node4, node5, node6, node7, node8, device1, device2, device3, device4, 0
b9:	.long unlink1, unlink2, unlink3, unlink4, unlink5, unlink6, unlink7, unlink8, 0
b10:	.long lock1, lock2, lock3, lock4, lock5, lock6, lock7, lock8, 0
batches: .long b0, b1, b2, b3, b10, b4, b5, b6, b0, b1, b2, b3, b8, b9, b7, 0
	.text
