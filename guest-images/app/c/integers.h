// integers.h: arrays of integers in JSON (RFC 8259), read and written piece by
// piece, and sorted slowly.
#ifndef INTEGERS_H
#define INTEGERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { INTEGERS_MAX = 16384 }; // elements of an array

struct integers {
	int64_t *v;
	uint32_t n, room;
	// Of the text that is being read:
	enum integers_state {
		INTEGERS_BEGIN,
		INTEGERS_FIRST, // after [
		INTEGERS_NEXT,  // after a comma
		INTEGERS_MINUS,
		INTEGERS_ZERO, // which no digit follows
		INTEGERS_DIGITS,
		INTEGERS_AFTER, // after a number
		INTEGERS_END,
	} state;
	bool negative;
	uint64_t magnitude;
};

enum integers_result { INTEGERS_OK, INTEGERS_WRONG, INTEGERS_TOO_MANY, INTEGERS_NO_MEMORY };

void integers_free(struct integers *a);

// integers_read reads on in a text. After a result other than OK it must not be
// called again.
enum integers_result integers_read(struct integers *a, const char *text, size_t n);

// integers_complete reports whether what was read is an array.
bool integers_complete(const struct integers *a);

// integers_sort sorts with bubble sort: n(n-1)/2 comparisons.
void integers_sort(struct integers *a);

// integers_length is the number of bytes of the array as a text.
size_t integers_length(const struct integers *a);

enum { INTEGER_SIZE = 24 }; // room for an integer with a comma

// integers_write writes element i, with what comes before it, to text and
// returns the number of bytes; i = n writes the end.
size_t integers_write(const struct integers *a, uint32_t i, char text[INTEGER_SIZE]);

#endif
