#include "go_asm.h"
#include "textflag.h"

// System calls of Linux on amd64, and what is asked of them.
#define SYS_write 1
#define SYS_rt_sigaction 13
#define SYS_getrlimit 97
#define SYS_exit_group 231
#define RLIMIT_DATA 2
#define RLIMIT_AS 9
#define STDERR 2
#define SIG_IGN 1
#define SIGSET_SIZE 8
#define SIGNALS 32

// CHECK goes on at next where a limit is not below what it has to be at the least.
// Elsewhere it writes a message, a Go string, and ends the process.
#define CHECK(resource, least, message, next) \
	MOVL	$SYS_getrlimit, AX \
	MOVL	$resource, DI \
	MOVQ	SP, SI \
	SYSCALL \
	TESTQ	AX, AX \
	JNE	next \
	MOVQ	(SP), AX \
	CMPQ	AX, $least \
	JCC	next \
	MOVL	$SYS_write, AX \
	MOVL	$STDERR, DI \
	MOVQ	message+0(SB), SI \
	MOVQ	message+8(SB), DX \
	SYSCALL \
	MOVL	$SYS_exit_group, AX \
	MOVL	$const_NoMemory, DI \
	SYSCALL

// vmm_entry is where the process begins, before Go's runtime: the Makefile has the
// linker make it the entry (-E vmm_entry). The registers are free; the stack has the
// arguments, which are left there for the runtime. System V ABI, AMD64, §3.4.1.
TEXT vmm_entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	SUBQ	$32, SP // for answers: struct rlimit, struct kernel_sigaction

	// The runtime ends, with the status of wrong usage, when it lacks memory.
	CHECK(RLIMIT_AS, const_Space, ·tooLittleSpace, data)
data:
	CHECK(RLIMIT_DATA, const_Data, ·tooLittleData, signals)

signals:
	// The runtime takes all signals but two over, ignored or not.
	MOVL	$1, R12
next:
	MOVL	$SYS_rt_sigaction, AX
	MOVL	R12, DI
	XORL	SI, SI
	MOVQ	SP, DX
	MOVL	$SIGSET_SIZE, R10
	SYSCALL
	CMPQ	(SP), $SIG_IGN
	JNE	heeded
	BTSL	R12, ·ignored(SB)
heeded:
	INCL	R12
	CMPL	R12, $SIGNALS
	JLT	next

	ADDQ	$32, SP
	JMP	_rt0_amd64_linux(SB)
