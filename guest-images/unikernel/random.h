// random.h: numbers that others cannot guess.
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

uint32_t random32(void);

#endif
