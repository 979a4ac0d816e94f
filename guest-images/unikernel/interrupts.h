// interrupts.h: interrupts and exceptions of the one processor.
#ifndef INTERRUPTS_H
#define INTERRUPTS_H

#include <stdbool.h>
#include <stdint.h>

// Vectors. Those below 32 are exceptions.
enum {
	TIMER_VECTOR = 0x40,
	NETWORK_VECTOR = 0x41,
	CONSOLE_VECTOR = 0x42,
	SPURIOUS_VECTOR = 0xff,
};

void interrupts_init(void);

// connect_interrupt leads an input of the I/O APIC to a vector. It returns
// false when there is no such input.
bool connect_interrupt(uint32_t input, uint8_t vector);

// Where a message-signalled interrupt goes, and its content. Intel SDM vol. 3
// §11.11: to the processor of APIC ID 0.
enum { MESSAGE_ADDRESS = 0xfee00000u };

// start_timer has an interrupt come after ns nanoseconds, or a minute if that is
// sooner.
void start_timer(uint64_t ns);

// timer_left is the time until then, in nanoseconds.
uint64_t timer_left(void);

#endif
