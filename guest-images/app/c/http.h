// http.h: the REST service as a machine that takes bytes of requests and gives
// bytes of responses. It knows nothing of sockets, of time or of other
// connections, and needs of a system only malloc: posix.c puts it on Linux's
// TCP, the unikernel on lwIP's.
//
// HTTP/1.1 is RFC 9112, its meaning RFC 9110.
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "integers.h"

enum {
	HTTP_PORT = 8080,
	HTTP_MAX_HEAD = 8192,        // bytes of a request's line and headers, or of its trailers
	HTTP_MAX_LINE = 512,         // of the request line, and of a header that matters
	HTTP_MAX_BODY = 256 << 10,   // bytes
	HTTP_TIMEOUT = 60,           // seconds from the begin of a request to the end of its response
	HTTP_LINGER = 2,             // seconds to read on after the last response
};

enum http_method { METHOD_OTHER, METHOD_GET, METHOD_HEAD, METHOD_POST };

// http is a connection.
struct http {
	// Where in a request it is.
	enum http_state {
		HTTP_REQUEST_LINE,
		HTTP_HEADERS,
		HTTP_BODY,
		HTTP_CHUNK_SIZE,
		HTTP_CHUNK,
		HTTP_CHUNK_END,
		HTTP_TRAILERS,
		HTTP_ENDED, // after an error or the last request: whatever comes is thrown away
	} state;
	char line[HTTP_MAX_LINE];
	uint16_t line_len;
	bool cr;        // the last byte was a CR
	bool cut;       // the line is longer than what is kept of it
	uint32_t head;  // bytes of head so far; then of a chunk's line, or of the trailers

	// What the request says.
	enum http_method method;
	const struct resource *resource; // NULL: not found
	bool http10, keep_alive, close, chunked, expect, has_length;
	uint8_t hosts;
	uint64_t length;     // of the body, or of the chunk, that is still to come
	uint32_t body;       // bytes of body so far
	int status;          // of the response; 0 as long as nothing is wrong
	struct integers numbers; // to be sorted

	// The response: a head, then a text or the numbers.
	enum http_response { HTTP_NONE, HTTP_INTERIM, HTTP_HEAD, HTTP_TEXT, HTTP_NUMBERS } sending;
	const char *piece; // what of it is to be sent next
	size_t piece_len;
	const char *text;
	uint32_t number; // the next one to be sent
	char buffer[256];
};

void http_init(struct http *h);

// http_free lets go of what h holds.
void http_free(struct http *h);

// http_input takes bytes of requests and returns how many it took: those to the
// end of a request, and none while there is output. What it left has to be
// offered again.
size_t http_input(struct http *h, const void *data, size_t n);

// http_output gives the next bytes of a response, at most n. 0 means that
// there are none before there is more input.
size_t http_output(struct http *h, void *data, size_t n);

// http_idle reports whether h is between two requests.
bool http_idle(const struct http *h);

// http_ended reports whether no response will follow any more. The other side
// is then to be told, but its bytes still to be read for a while: a reset, which
// is what unread ones cause, may overtake the response. RFC 9112 §9.6.
bool http_ended(const struct http *h);

// The parts of the machine: http.c reads requests, service.c answers them.

// route finds what the request line asks for, a target of n bytes.
void http_route(struct http *h, const char *target, size_t n);

// take_body is called with the parts of the body.
void http_take_body(struct http *h, const char *data, size_t n);

// respond begins the response, to a request that is complete or wrong.
void http_respond(struct http *h);

// next_piece finds out what is to be sent next, and returns whether there is
// anything.
bool http_next_piece(struct http *h);

#endif
