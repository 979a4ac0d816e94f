#include "textflag.h"

// Offsets in siginfo_t of a SIGSYS, and in ucontext_t. sigaction(2), <asm/sigcontext.h>
#define info_syscall 24
#define context_rdi 104
#define context_rsi 112
#define context_rdx 136

#define SYS_write 1
#define SYS_nanosleep 35
#define SYS_exit_group 231

// refused is the handler of SIGSYS, which the kernel enters on a signal stack, with
// the signal in DI, siginfo_t in SI and ucontext_t in DX. Whatever the thread was
// doing, Go's runtime in the middle of something included, it does not go on. It
// sends the number and three arguments of the call through a pipe to whoever ends the
// process in good order, gives them two seconds, and then ends it itself.
TEXT ·refused(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	SUBQ	$64, SP
	MOVLQSX	info_syscall(SI), R12
	MOVQ	R12, 0(SP)
	MOVQ	context_rdi(DX), AX
	MOVQ	AX, 8(SP)
	MOVQ	context_rsi(DX), AX
	MOVQ	AX, 16(SP)
	MOVQ	context_rdx(DX), AX
	MOVQ	AX, 24(SP)

	MOVL	$SYS_write, AX
	MOVQ	·refusalPipe(SB), DI
	MOVQ	SP, SI
	MOVL	$32, DX
	SYSCALL

	MOVQ	$2, 32(SP)
	MOVQ	$0, 40(SP)
	MOVL	$SYS_nanosleep, AX
	LEAQ	32(SP), DI
	XORL	SI, SI
	SYSCALL

	// Nobody has.
	LEAQ	·refusalBegins(SB), R13
	CALL	say<>(SB)
	CMPQ	R12, ·maxCall(SB)
	JCC	unknown
	SHLQ	$4, R12 // the size of a string
	LEAQ	·names(SB), R13
	ADDQ	R12, R13
	CALL	say<>(SB)
unknown:
	LEAQ	·refusalEnds(SB), R13
	CALL	say<>(SB)

	MOVL	$SYS_exit_group, AX
	MOVQ	·refusalStatus(SB), DI
	SYSCALL
	INT	$3

// say writes the string that R13 leads to to standard error.
TEXT say<>(SB),NOSPLIT|NOFRAME,$0
	MOVL	$SYS_write, AX
	MOVL	$2, DI
	MOVQ	0(R13), SI
	MOVQ	8(R13), DX
	SYSCALL
	RET

// func refusedAddress() uintptr
TEXT ·refusedAddress(SB),NOSPLIT,$0-8
	LEAQ	·refused(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
