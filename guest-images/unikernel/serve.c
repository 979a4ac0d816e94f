// serve.c: the REST service on lwIP's TCP, through its raw API: callbacks from the
// main loop. It does what app/c/posix.c does on Linux.
#include "serve.h"

#include <lwip/priv/tcp_priv.h>
#include <stdlib.h>

#include "clock.h"
#include "console.h"
#include "http.h"

enum {
	BUFFER = TCP_MSS,
	POLL = 2,     // half seconds
	PATIENCE = 2, // half seconds for a connection that has begun, when others wait
};

static const uint64_t second = 1000000000;

struct connection {
	struct tcp_pcb *pcb;
	uint64_t deadline;
	struct pbuf *in;  // received and not yet taken
	uint16_t in_at;   // of its first piece
	bool in_ended;    // the client sends no more
	bool shut;        // the client has been told that nothing follows
	size_t out_at, out_end;
	struct http http;
	char out[BUFFER];
};

// forget lets go of a connection whose pcb is gone or going.
static void forget(struct connection *c) {
	if (c->in)
		pbuf_free(c->in);
	http_free(&c->http);
	free(c);
}

// end closes a connection. The result is for lwIP, from whose callback it comes.
static err_t end(struct connection *c) {
	struct tcp_pcb *pcb = c->pcb;
	tcp_arg(pcb, NULL);
	tcp_recv(pcb, NULL);
	tcp_sent(pcb, NULL);
	tcp_err(pcb, NULL);
	tcp_poll(pcb, NULL, 0);
	forget(c);
	if (tcp_close(pcb) == ERR_OK)
		return ERR_OK;
	tcp_abort(pcb);
	return ERR_ABRT;
}

// write_output gives TCP what there is to be sent. It returns false when the rest
// has to wait.
static bool write_output(struct connection *c) {
	for (;;) {
		if (c->out_at == c->out_end) {
			c->out_at = 0;
			c->out_end = http_output(&c->http, c->out, sizeof c->out);
			if (c->out_end == 0)
				return true;
		}
		size_t n = c->out_end - c->out_at, room = tcp_sndbuf(c->pcb);
		if (n > room)
			n = room;
		if (n == 0 || tcp_write(c->pcb, c->out + c->out_at, n, TCP_WRITE_FLAG_COPY) != ERR_OK)
			return false;
		c->out_at += n;
		if (c->out_at == c->out_end && http_idle(&c->http))
			c->deadline = clock_ns() + HTTP_TIMEOUT * second;
	}
}

// take_input gives the service what there is of received bytes.
static void take_input(struct connection *c) {
	struct pbuf *p = c->in;
	size_t taken = http_input(&c->http, (char *)p->payload + c->in_at, p->len - c->in_at);
	c->in_at += taken;
	tcp_recved(c->pcb, taken);
	if (c->in_at == p->len) {
		c->in = p->next;
		c->in_at = 0;
		if (c->in)
			pbuf_ref(c->in);
		pbuf_free(p);
	}
}

// go_on goes on with a connection as far as possible.
static err_t go_on(struct connection *c) {
	while (write_output(c)) {
		if (http_ended(&c->http) && !c->shut) {
			tcp_output(c->pcb);
			if (tcp_shutdown(c->pcb, 0, 1) != ERR_OK)
				break; // no memory: again later
			c->shut = true;
			c->deadline = clock_ns() + HTTP_LINGER * second;
		}
		if (c->in)
			take_input(c);
		else if (c->in_ended)
			return end(c);
		else
			break;
	}
	tcp_output(c->pcb);
	return ERR_OK;
}

static err_t on_received(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err) {
	struct connection *c = arg;
	(void)pcb, (void)err;
	if (!p)
		c->in_ended = true;
	else if (c->in)
		pbuf_cat(c->in, p);
	else
		c->in = p;
	return go_on(c);
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t n) {
	(void)pcb, (void)n;
	return go_on(arg);
}

// on_poll is called every second: for what had no memory, and for who is slow.
static err_t on_poll(void *arg, struct tcp_pcb *pcb) {
	struct connection *c = arg;
	if (clock_ns() < c->deadline)
		return go_on(c);
	tcp_abort(pcb);
	return ERR_ABRT;
}

// on_error is called when the pcb is gone already.
static void on_error(void *arg, err_t err) {
	(void)err;
	forget(arg);
}

static err_t on_accepted(void *arg, struct tcp_pcb *pcb, err_t err) {
	(void)arg;
	if (err != ERR_OK)
		return err;
	struct connection *c = malloc(sizeof *c);
	if (!c)
		return ERR_MEM; // lwIP then aborts the connection
	c->pcb = pcb;
	c->deadline = clock_ns() + HTTP_TIMEOUT * second;
	c->in = NULL;
	c->in_at = 0;
	c->in_ended = c->shut = false;
	c->out_at = c->out_end = 0;
	http_init(&c->http);
	tcp_arg(pcb, c);
	tcp_recv(pcb, on_received);
	tcp_sent(pcb, on_sent);
	tcp_err(pcb, on_error);
	tcp_poll(pcb, on_poll, POLL);
	tcp_nagle_disable(pcb); // answers go out at once
	return ERR_OK;
}

// serve_make_room ends connections that have only begun, and have had their time,
// when there is no room for another: clients that never go on, which lwIP would wait
// for as long as 20 seconds, do not keep others out. It looks for them once in half
// a second: what comes too fast has to be cheap to refuse.
err_t serve_make_room(const struct tcp_pcb *pcb) {
	static uint32_t looked;
	const struct tcp_pcb_listen *listener = (const struct tcp_pcb_listen *)pcb;
	if (pcb->state != LISTEN || listener->accepts_pending < listener->backlog || looked == tcp_ticks)
		return ERR_OK;
	looked = tcp_ticks;
	for (struct tcp_pcb *p = tcp_active_pcbs, *next; p; p = next) {
		next = p->next;
		if (p->state == SYN_RCVD && tcp_ticks - p->tmr >= PATIENCE)
			tcp_abandon(p, 0);
	}
	return ERR_OK;
}

void serve_init(void) {
	struct tcp_pcb *pcb = tcp_new();
	if (!pcb || tcp_bind(pcb, IP_ADDR_ANY, HTTP_PORT) != ERR_OK || !(pcb = tcp_listen(pcb)))
		panic("no memory to listen", 0, 0);
	tcp_accept(pcb, on_accepted);
}
