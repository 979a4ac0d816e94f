// power.h: the ends of the machine.
#ifndef POWER_H
#define POWER_H

#include <stdint.h>

// power_init finds out from the firmware's tables how to switch off.
void power_init(uint64_t rsdp);

// power_off switches the machine off, or resets it where there are no tables.
_Noreturn void power_off(void);

// crash ends the machine as only an error does.
_Noreturn void crash(void);

#endif
