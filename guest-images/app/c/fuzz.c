// fuzz.c: the service as a fuzzer drives it. Each input is bytes that a client
// sends; what comes back must not depend on how they are cut into pieces.
//
// Built with a main of its own it reads inputs from standard input, each behind
// its length in 4 bytes, and answers with the output in the same form, which
// tests/rest looks at. It is LLVMFuzzerTestOneInput for libFuzzer:
//
//	clang -g -O1 -fsanitize=fuzzer,address,undefined -DLIBFUZZER fuzz.c http.c service.c integers.c
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"

struct output {
	char *data;
	size_t n, room;
};

static void append(struct output *o, const char *data, size_t n) {
	if (o->n + n > o->room) {
		o->room = 2 * (o->n + n);
		o->data = realloc(o->data, o->room);
		if (!o->data)
			abort();
	}
	memcpy(o->data + o->n, data, n);
	o->n += n;
}

// run sends the input in pieces of at most step bytes, and reads as much at a
// time. Each piece has memory of its own, so that a read beyond it is noticed.
static void run(const uint8_t *data, size_t n, size_t step, struct output *o) {
	struct http h;
	memset(&h, 0xa5, sizeof h);
	http_init(&h);
	for (size_t at = 0; at < n;) {
		size_t part = n - at < step ? n - at : step;
		char *piece = malloc(part);
		memcpy(piece, data + at, part);
		size_t taken = http_input(&h, piece, part);
		free(piece);
		if (taken > part)
			abort();
		at += taken;
		char *out = malloc(step);
		size_t given = 0;
		for (size_t got; (got = http_output(&h, out, step)) > 0; given += got)
			append(o, out, got);
		free(out);
		if (taken == 0 && given == 0)
			abort(); // it neither takes nor gives: a client would wait for ever
	}
	http_free(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
	struct output whole = {0}, pieces = {0};
	run(data, n, n + 1, &whole);
	run(data, n, 1 + n % 7, &pieces);
	if (whole.n != pieces.n || (whole.n > 0 && memcmp(whole.data, pieces.data, whole.n) != 0))
		abort();
#ifndef LIBFUZZER
	uint32_t size = whole.n;
	fwrite(&size, sizeof size, 1, stdout);
	if (whole.n > 0)
		fwrite(whole.data, 1, whole.n, stdout);
	fflush(stdout);
#endif
	free(whole.data);
	free(pieces.data);
	return 0;
}

#ifndef LIBFUZZER
int main(void) {
	uint32_t n;
	while (fread(&n, sizeof n, 1, stdin) == 1) {
		uint8_t *data = malloc(n + 1);
		if (!data || fread(data, 1, n, stdin) != n)
			return 1;
		LLVMFuzzerTestOneInput(data, n);
		free(data);
	}
	return 0;
}
#endif
