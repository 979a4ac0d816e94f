#include "integers.h"

#include <stdlib.h>

void integers_free(struct integers *a) {
	free(a->v);
	*a = (struct integers){0};
}

// append adds the number that has just ended.
static enum integers_result append(struct integers *a) {
	if (a->magnitude > (uint64_t)INT64_MAX + a->negative)
		return INTEGERS_WRONG;
	if (a->n == INTEGERS_MAX)
		return INTEGERS_TOO_MANY;
	if (a->n == a->room) {
		uint32_t room = a->room ? 2 * a->room : 64;
		int64_t *v = realloc(a->v, room * sizeof *v);
		if (!v)
			return INTEGERS_NO_MEMORY;
		a->v = v;
		a->room = room;
	}
	// In unsigned arithmetic, where the smallest number can be negated too.
	a->v[a->n++] = (int64_t)(a->negative ? -a->magnitude : a->magnitude);
	a->magnitude = 0;
	a->negative = false;
	return INTEGERS_OK;
}

static bool space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
static bool digit(char c) { return c >= '0' && c <= '9'; }

// begin takes the first character of a number.
static enum integers_result begin(struct integers *a, char c) {
	if (c == '-') {
		a->negative = true;
		a->state = INTEGERS_MINUS;
	} else if (digit(c)) {
		a->magnitude = c - '0';
		a->state = c == '0' ? INTEGERS_ZERO : INTEGERS_DIGITS;
	} else {
		return INTEGERS_WRONG;
	}
	return INTEGERS_OK;
}

// follow takes a character after a number.
static enum integers_result follow(struct integers *a, char c) {
	if (c == ',')
		a->state = INTEGERS_NEXT;
	else if (c == ']')
		a->state = INTEGERS_END;
	else if (space(c))
		a->state = INTEGERS_AFTER;
	else
		return INTEGERS_WRONG;
	return INTEGERS_OK;
}

static enum integers_result read_one(struct integers *a, char c) {
	enum integers_result result;
	switch (a->state) {
	case INTEGERS_BEGIN:
		if (c == '[')
			a->state = INTEGERS_FIRST;
		else if (!space(c))
			return INTEGERS_WRONG;
		return INTEGERS_OK;
	case INTEGERS_FIRST:
		if (c == ']') {
			a->state = INTEGERS_END;
			return INTEGERS_OK;
		}
		// fall through
	case INTEGERS_NEXT:
		return space(c) ? INTEGERS_OK : begin(a, c);
	case INTEGERS_MINUS:
		return digit(c) ? begin(a, c) : INTEGERS_WRONG;
	case INTEGERS_DIGITS:
		if (digit(c)) {
			// One digit more still fits into 64 bits.
			if (a->magnitude > (uint64_t)INT64_MAX / 10)
				return INTEGERS_WRONG;
			a->magnitude = 10 * a->magnitude + (c - '0');
			return INTEGERS_OK;
		}
		// fall through
	case INTEGERS_ZERO:
		result = append(a);
		return result == INTEGERS_OK ? follow(a, c) : result;
	case INTEGERS_AFTER:
		return follow(a, c);
	case INTEGERS_END:
		return space(c) ? INTEGERS_OK : INTEGERS_WRONG;
	}
	return INTEGERS_WRONG;
}

enum integers_result integers_read(struct integers *a, const char *text, size_t n) {
	for (size_t i = 0; i < n; i++) {
		enum integers_result result = read_one(a, text[i]);
		if (result != INTEGERS_OK)
			return result;
	}
	return INTEGERS_OK;
}

bool integers_complete(const struct integers *a) { return a->state == INTEGERS_END; }

void integers_sort(struct integers *a) {
	for (uint32_t end = a->n; end > 1; end--) {
		for (uint32_t i = 1; i < end; i++) {
			if (a->v[i - 1] > a->v[i]) {
				int64_t larger = a->v[i - 1];
				a->v[i - 1] = a->v[i];
				a->v[i] = larger;
			}
		}
	}
}

size_t integers_write(const struct integers *a, uint32_t i, char text[INTEGER_SIZE]) {
	char digits[20];
	size_t n = 0, count = 0;
	if (i == a->n) {
		if (i == 0)
			text[n++] = '[';
		text[n++] = ']';
		text[n++] = '\n';
		return n;
	}
	text[n++] = i == 0 ? '[' : ',';
	uint64_t magnitude = a->v[i];
	if (a->v[i] < 0) {
		text[n++] = '-';
		magnitude = -magnitude;
	}
	do
		digits[count++] = '0' + magnitude % 10;
	while (magnitude /= 10);
	while (count > 0)
		text[n++] = digits[--count];
	return n;
}

size_t integers_length(const struct integers *a) {
	char text[INTEGER_SIZE];
	size_t total = 0;
	for (uint32_t i = 0; i <= a->n; i++)
		total += integers_write(a, i, text);
	return total;
}
