// random.c: the processor's random numbers (Intel SDM vol. 1 §7.3.17). A processor
// without has only the time since its start, stirred: enough for addresses not to
// collide, not against who means harm.
#include "random.h"

#include <stdbool.h>

#include "x86.h"

static bool from_processor(uint64_t *v) {
	static int has = -1;
	if (has < 0)
		has = cpuid(1).ecx >> 30 & 1;
	for (int i = 0; has && i < 10; i++) {
		bool ok;
		__asm__ volatile("rdrand %0" : "=r"(*v), "=@ccc"(ok));
		if (ok)
			return true;
	}
	return false;
}

uint32_t random32(void) {
	static uint64_t state;
	uint64_t v;
	if (from_processor(&v))
		return v;
	// SplitMix64. Steele, Lea, Flood: Fast splittable pseudorandom number
	// generators (OOPSLA 2014).
	state += read_tsc() | 1;
	v = state;
	v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9;
	v = (v ^ v >> 27) * 0x94d049bb133111eb;
	return v >> 31;
}
