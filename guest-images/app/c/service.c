// service.c: what the service answers. The routes and the heavy task are those
// of T. Goethals et al., "Unikernels vs Containers" (IEEE SC2 2018): a greeting,
// a list of five items, each of them, and bubble sort.
#include <string.h>

#include "http.h"

// resource is what a path leads to.
struct resource {
	const char *path;
	const char *text; // the answer to GET; NULL: POST sorts an array
};

#define TODO(id, title, done) "{\"id\":" #id ",\"title\":\"" title "\",\"done\":" #done "}"
#define TODO1 TODO(1, "Read the paper", true)
#define TODO2 TODO(2, "Start a container", true)
#define TODO3 TODO(3, "Start a virtual machine", false)
#define TODO4 TODO(4, "Start a unikernel", false)
#define TODO5 TODO(5, "Compare them", false)

static const struct resource resources[] = {
	{"/", "{\"service\":\"todos\"}\n"},
	{"/todos", "[" TODO1 "," TODO2 "," TODO3 "," TODO4 "," TODO5 "]\n"},
	{"/todos/1", TODO1 "\n"},
	{"/todos/2", TODO2 "\n"},
	{"/todos/3", TODO3 "\n"},
	{"/todos/4", TODO4 "\n"},
	{"/todos/5", TODO5 "\n"},
	{"/sort", NULL},
};

// path cuts a target down to its path. RFC 9112 §3.2: a target is a path with
// a query, or all of a URI.
static const char *path(const char *target, size_t *n) {
	const char *end = memchr(target, '?', *n);
	if (end)
		*n = end - target;
	if (*n > 7 && memcmp(target, "http://", 7) == 0) {
		const char *slash = memchr(target + 7, '/', *n - 7);
		if (!slash) {
			*n = 1;
			return "/";
		}
		*n -= slash - target;
		return slash;
	}
	return target;
}

void http_route(struct http *h, const char *target, size_t n) {
	target = path(target, &n);
	h->resource = NULL;
	for (size_t i = 0; i < sizeof resources / sizeof *resources; i++) {
		if (strlen(resources[i].path) == n && memcmp(resources[i].path, target, n) == 0)
			h->resource = &resources[i];
	}
	if (!h->resource)
		h->status = 404;
	else if (h->resource->text ? h->method != METHOD_GET && h->method != METHOD_HEAD : h->method != METHOD_POST)
		h->status = 405;
}

void http_take_body(struct http *h, const char *data, size_t n) {
	static const int status[] = {
		[INTEGERS_OK] = 0,
		[INTEGERS_WRONG] = 400,
		[INTEGERS_TOO_MANY] = 413,
		[INTEGERS_NO_MEMORY] = 503,
	};
	if (h->status == 0 && !h->resource->text)
		h->status = status[integers_read(&h->numbers, data, n)];
}

// phrase is what a status means: its reason phrase, and the answer's text.
struct phrase {
	int status;
	const char *reason, *text;
};

static const struct phrase phrases[] = {
	{200, "OK", ""},
	{400, "Bad Request", "{\"error\":\"bad request\"}\n"},
	{404, "Not Found", "{\"error\":\"not found\"}\n"},
	{405, "Method Not Allowed", "{\"error\":\"method not allowed\"}\n"},
	{413, "Content Too Large", "{\"error\":\"content too large\"}\n"},
	{414, "URI Too Long", "{\"error\":\"target too long\"}\n"},
	{417, "Expectation Failed", "{\"error\":\"expectation failed\"}\n"},
	{431, "Request Header Fields Too Large", "{\"error\":\"header too large\"}\n"},
	{501, "Not Implemented", "{\"error\":\"not implemented\"}\n"},
	{505, "HTTP Version Not Supported", "{\"error\":\"version not supported\"}\n"},
	{503, "Service Unavailable", "{\"error\":\"no memory\"}\n"}, // the last: for any other
};

static const struct phrase *phrase(int status) {
	const struct phrase *p = phrases;
	while (p->status != status && p->status != 503)
		p++;
	return p;
}

static char *add(char *to, const char *text) {
	size_t n = strlen(text);
	memcpy(to, text, n);
	return to + n;
}

static char *add_number(char *to, size_t n) {
	char digits[20];
	size_t count = 0;
	do
		digits[count++] = '0' + n % 10;
	while (n /= 10);
	while (count > 0)
		*to++ = digits[--count];
	return to;
}

void http_respond(struct http *h) {
	bool sorted = false;
	if (h->status == 0 && !h->resource->text) {
		if (integers_complete(&h->numbers)) {
			integers_sort(&h->numbers);
			sorted = true;
		} else {
			h->status = 400;
		}
	}
	if (h->status == 0)
		h->status = 200;
	const struct phrase *p = phrase(h->status);
	h->text = h->status == 200 && !sorted ? h->resource->text : p->text;
	size_t length = sorted ? integers_length(&h->numbers) : strlen(h->text);

	// The longest head has less than 200 bytes.
	char *end = add(h->buffer, "HTTP/1.1 ");
	end = add_number(end, h->status);
	end = add(end, " ");
	end = add(end, p->reason);
	end = add(end, "\r\nContent-Type: application/json\r\nContent-Length: ");
	end = add_number(end, length);
	if (h->status == 405)
		end = add(end, h->resource->text ? "\r\nAllow: GET, HEAD" : "\r\nAllow: POST");
	if (h->close)
		end = add(end, "\r\nConnection: close");
	else if (h->http10)
		end = add(end, "\r\nConnection: keep-alive");
	end = add(end, "\r\n\r\n");
	h->sending = HTTP_HEAD;
	h->piece = h->buffer;
	h->piece_len = end - h->buffer;
}

bool http_next_piece(struct http *h) {
	switch (h->sending) {
	case HTTP_HEAD:
		if (h->method == METHOD_HEAD)
			break;
		if (h->numbers.state == INTEGERS_END && h->status == 200) {
			h->sending = HTTP_NUMBERS;
			h->number = 0;
			return http_next_piece(h);
		}
		h->sending = HTTP_TEXT;
		h->piece = h->text;
		h->piece_len = strlen(h->text);
		return true;
	case HTTP_NUMBERS:
		if (h->number > h->numbers.n)
			break;
		h->piece = h->buffer;
		h->piece_len = integers_write(&h->numbers, h->number++, h->buffer);
		return true;
	default:
		break;
	}
	return false;
}
