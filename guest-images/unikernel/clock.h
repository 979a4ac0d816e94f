// clock.h: time since the clock was set up.
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

void clock_init(void);

// nanoseconds since clock_init, never less than before.
uint64_t clock_ns(void);

#endif
