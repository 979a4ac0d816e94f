#include "http.h"

#include <string.h>

// begin gets ready for a request.
static void begin(struct http *h) {
	integers_free(&h->numbers);
	h->state = HTTP_REQUEST_LINE;
	h->line_len = 0;
	h->cr = h->cut = false;
	h->head = 0;
	h->method = METHOD_OTHER;
	h->resource = NULL;
	h->http10 = h->keep_alive = h->close = h->chunked = h->expect = h->has_length = false;
	h->hosts = 0;
	h->length = 0;
	h->body = 0;
	h->status = 0;
	h->sending = HTTP_NONE;
	h->piece_len = 0;
}

void http_init(struct http *h) {
	h->numbers = (struct integers){0};
	begin(h);
}

void http_free(struct http *h) { integers_free(&h->numbers); }

bool http_idle(const struct http *h) {
	return h->state == HTTP_REQUEST_LINE && h->head == 0 && h->sending == HTTP_NONE;
}

bool http_ended(const struct http *h) { return h->state == HTTP_ENDED && h->sending == HTTP_NONE; }

// fail answers a request after which it is not known where the next one begins.
static void fail(struct http *h, int status) {
	h->status = status;
	h->close = true;
	h->state = HTTP_ENDED;
	http_respond(h);
}

// finish answers a request that is complete.
static void finish(struct http *h) {
	if (h->close)
		h->state = HTTP_ENDED;
	http_respond(h);
}

// A word is a part of a line.
struct word {
	const char *at;
	size_t n;
};

static char lower(char c) { return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c; }

// is reports whether w is text, which is in lower case, whatever its own case.
static bool is(struct word w, const char *text) {
	if (w.n != strlen(text))
		return false;
	for (size_t i = 0; i < w.n; i++) {
		if (lower(w.at[i]) != text[i])
			return false;
	}
	return true;
}

static bool blank(char c) { return c == ' ' || c == '\t'; }

static struct word trim(struct word w) {
	while (w.n > 0 && blank(w.at[0]))
		w.at++, w.n--;
	while (w.n > 0 && blank(w.at[w.n - 1]))
		w.n--;
	return w;
}

// cut splits off what comes before the first c. Without one that is all of w.
static struct word cut(struct word *w, char c) {
	const char *end = memchr(w->at, c, w->n);
	struct word first = {w->at, end ? (size_t)(end - w->at) : w->n};
	size_t taken = end ? first.n + 1 : w->n;
	w->at += taken;
	w->n -= taken;
	return first;
}

// is_token reports whether w is a token. RFC 9110 §5.6.2.
static bool is_token(struct word w) {
	for (size_t i = 0; i < w.n; i++) {
		char c = lower(w.at[i]);
		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && (c == 0 || !strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return w.n > 0;
}

// take_request_line reads the method, target and version. RFC 9112 §3.
static void take_request_line(struct http *h, struct word line) {
	if (line.n == 0 && !h->cut)
		return; // RFC 9112 §2.2: empty lines before a request do not count
	if (h->cut) {
		fail(h, 414);
		return;
	}
	struct word method = cut(&line, ' '), target = cut(&line, ' '), version = line;
	if (!is_token(method) || target.n == 0 || version.n != 8 || memcmp(version.at, "HTTP/", 5) != 0 ||
	    version.at[6] != '.' || version.at[5] < '0' || version.at[5] > '9' || version.at[7] < '0' || version.at[7] > '9') {
		fail(h, 400);
		return;
	}
	if (version.at[5] != '1') {
		fail(h, 505);
		return;
	}
	h->http10 = version.at[7] == '0';
	if (method.n == 3 && memcmp(method.at, "GET", 3) == 0)
		h->method = METHOD_GET;
	else if (method.n == 4 && memcmp(method.at, "HEAD", 4) == 0)
		h->method = METHOD_HEAD;
	else if (method.n == 4 && memcmp(method.at, "POST", 4) == 0)
		h->method = METHOD_POST;
	http_route(h, target.at, target.n);
	h->state = HTTP_HEADERS;
}

// take_length reads a Content-Length. RFC 9110 §8.6.
static void take_length(struct http *h, struct word value) {
	uint64_t length = 0;
	for (size_t i = 0; i < value.n; i++) {
		if (value.at[i] < '0' || value.at[i] > '9' || i == 18) {
			fail(h, 400);
			return;
		}
		length = 10 * length + (value.at[i] - '0');
	}
	if (value.n == 0 || (h->has_length && length != h->length)) {
		fail(h, 400);
		return;
	}
	h->has_length = true;
	h->length = length;
}

// take_header reads a header, of which few matter. RFC 9112 §5.
static void take_header(struct http *h, struct word line) {
	bool colon = memchr(line.at, ':', line.n);
	struct word name = cut(&line, ':'), value = trim(line);
	if (!colon || !is_token(name)) {
		// Among them: a name that is longer than a line, white space before
		// the colon, and lines that continue others. RFC 9112 §5.1, §5.2.
		fail(h, h->cut && !colon ? 431 : 400);
		return;
	}
	bool host = is(name, "host"), length = is(name, "content-length"), encoding = is(name, "transfer-encoding"),
	     connection = is(name, "connection"), expect = is(name, "expect");
	if (!host && !length && !encoding && !connection && !expect)
		return;
	if (h->cut) {
		fail(h, 431);
	} else if (host) {
		if (h->hosts++ > 0)
			fail(h, 400);
	} else if (length) {
		take_length(h, value);
	} else if (encoding) {
		// RFC 9112 §6.1: chunked must be the last coding; there is no other.
		if (h->http10 || h->chunked)
			fail(h, 400);
		else if (!is(value, "chunked"))
			fail(h, 501);
		h->chunked = true;
	} else if (expect) {
		if (!is(value, "100-continue"))
			fail(h, 417);
		h->expect = true;
	} else {
		while (value.n > 0) {
			struct word option = trim(cut(&value, ','));
			h->close |= is(option, "close");
			h->keep_alive |= is(option, "keep-alive");
		}
	}
}

// take_head looks at the headers as a whole: whether a body follows, and how
// long it is. RFC 9112 §6.3.
static void take_head(struct http *h) {
	h->close |= h->http10 && !h->keep_alive;
	if (!h->http10 && h->hosts != 1) {
		fail(h, 400); // RFC 9112 §3.2
		return;
	}
	if (h->chunked && h->has_length) {
		fail(h, 400); // an attempt to smuggle a request. RFC 9112 §6.1
		return;
	}
	if (h->length > HTTP_MAX_BODY) {
		fail(h, 413);
		return;
	}
	if (!h->chunked && h->length == 0) {
		finish(h);
		return;
	}
	h->state = h->chunked ? HTTP_CHUNK_SIZE : HTTP_BODY;
	h->head = 0;
	if (h->expect && !h->http10) { // RFC 9110 §10.1.1
		static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
		h->sending = HTTP_INTERIM;
		h->piece = go_on;
		h->piece_len = sizeof go_on - 1;
	}
}

// take_chunk_size reads the line before a chunk. RFC 9112 §7.1.
static void take_chunk_size(struct http *h, struct word line) {
	struct word size = trim(cut(&line, ';')); // the rest are extensions, which may be ignored
	uint64_t length = 0;
	if (h->cut || size.n == 0) {
		fail(h, 400);
		return;
	}
	for (size_t i = 0; i < size.n; i++) {
		char c = lower(size.at[i]);
		if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) {
			fail(h, 400);
			return;
		}
		length = 16 * length + (c <= '9' ? c - '0' : c - 'a' + 10);
		if (length > HTTP_MAX_BODY) {
			fail(h, 413);
			return;
		}
	}
	if (h->body + length > HTTP_MAX_BODY) {
		fail(h, 413);
		return;
	}
	h->length = length;
	h->state = length > 0 ? HTTP_CHUNK : HTTP_TRAILERS;
	h->head = 0;
}

static void take_line(struct http *h) {
	struct word line = {h->line, h->line_len};
	switch (h->state) {
	case HTTP_REQUEST_LINE:
		take_request_line(h, line);
		break;
	case HTTP_HEADERS:
		if (line.n > 0)
			take_header(h, line);
		else
			take_head(h);
		break;
	case HTTP_CHUNK_SIZE:
		take_chunk_size(h, line);
		break;
	case HTTP_CHUNK_END:
		if (line.n > 0)
			fail(h, 400);
		else
			h->state = HTTP_CHUNK_SIZE;
		break;
	case HTTP_TRAILERS:
		if (line.n == 0)
			finish(h);
		break;
	default:
		break;
	}
	h->line_len = 0;
	h->cut = false;
}

// take_byte takes a byte of a line. RFC 9112 §2.2: a line ends with CR LF, or
// with LF alone.
static void take_byte(struct http *h, char c) {
	if (++h->head > HTTP_MAX_HEAD) {
		fail(h, 431);
		return;
	}
	if (c == '\n') {
		h->cr = false;
		take_line(h);
		return;
	}
	// RFC 9110 §5.5: control characters are dangerous.
	if (h->cr || ((unsigned char)c < ' ' && c != '\t' && c != '\r') || c == 0x7f) {
		fail(h, 400);
		return;
	}
	if (c == '\r')
		h->cr = true;
	else if (h->line_len < sizeof h->line)
		h->line[h->line_len++] = c;
	else
		h->cut = true;
}

// take_part takes a part of the body, or of a chunk of it.
static size_t take_part(struct http *h, const char *data, size_t n) {
	if (n > h->length)
		n = h->length;
	http_take_body(h, data, n);
	h->body += n;
	h->length -= n;
	if (h->length == 0) {
		if (h->state == HTTP_CHUNK)
			h->state = HTTP_CHUNK_END;
		else
			finish(h);
	}
	return n;
}

size_t http_input(struct http *h, const void *data, size_t n) {
	const char *p = data;
	size_t i = 0;
	while (i < n && h->sending == HTTP_NONE) {
		if (h->state == HTTP_ENDED)
			return n;
		if (h->state == HTTP_BODY || h->state == HTTP_CHUNK)
			i += take_part(h, p + i, n - i);
		else
			take_byte(h, p[i++]);
	}
	return i;
}

size_t http_output(struct http *h, void *data, size_t n) {
	char *p = data;
	size_t done = 0;
	while (done < n && h->sending != HTTP_NONE) {
		size_t part = h->piece_len < n - done ? h->piece_len : n - done;
		memcpy(p + done, h->piece, part);
		done += part;
		h->piece += part;
		h->piece_len -= part;
		if (h->piece_len > 0 || http_next_piece(h))
			continue;
		// All of it is sent. After the interim response the body follows.
		if (h->sending == HTTP_INTERIM || h->state == HTTP_ENDED)
			h->sending = HTTP_NONE;
		else
			begin(h);
	}
	return done;
}
