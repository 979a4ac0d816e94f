// posix.c: the service on Linux: one thread, which waits in epoll for all of
// the connections.
//
//	rest [PORT [SECONDS]]
//
// SECONDS is how long a client may take for a request and for reading its
// response. It also runs as the first process of a container, or of a machine,
// which it then switches off when it is told to end.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "http.h"

enum {
	MAX_CONNECTIONS = 1024,
	BACKLOG = 1024,
	BUFFER = 4096,
	READS = 16, // of one connection before the others have their turn
};

struct connection {
	int fd;
	time_t deadline;
	bool wants_output; // what epoll waits for
	bool shut;         // the client has been told that nothing follows
	size_t in_at, in_end, out_at, out_end;
	struct http http;
	char in[BUFFER], out[BUFFER];
};

static struct connection *connections[MAX_CONNECTIONS];
static size_t count;
static int epoll, listener, signals;
static long timeout = HTTP_TIMEOUT;

static void die(const char *what) {
	fprintf(stderr, "rest: %s: %s\n", what, strerror(errno));
	exit(1);
}

static time_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

// watch has epoll report events of fd with a pointer.
static int watch(int operation, int fd, uint32_t events, void *data) {
	struct epoll_event e = {.events = events, .data.ptr = data};
	return epoll_ctl(epoll, operation, fd, &e);
}

// close_connection also leaves the listener watched: there is room now.
static void close_connection(struct connection *c) {
	for (size_t i = 0; i < count; i++) {
		if (connections[i] == c)
			connections[i] = connections[count - 1];
	}
	if (count-- == MAX_CONNECTIONS)
		watch(EPOLL_CTL_MOD, listener, EPOLLIN, &listener);
	http_free(&c->http);
	close(c->fd);
	free(c);
}

static void accept_connection(void) {
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return; // gone already; or no memory or descriptors, which others will give back
	struct connection *c = malloc(sizeof *c);
	if (!c) {
		close(fd);
		return;
	}
	c->fd = fd;
	c->deadline = now() + timeout;
	c->wants_output = c->shut = false;
	c->in_at = c->in_end = c->out_at = c->out_end = 0;
	http_init(&c->http);
	int on = 1; // answers go out at once
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (watch(EPOLL_CTL_ADD, fd, EPOLLIN, c) < 0) {
		close(fd);
		free(c);
		return;
	}
	connections[count++] = c;
	if (count == MAX_CONNECTIONS)
		watch(EPOLL_CTL_MOD, listener, 0, &listener); // the rest waits in the backlog
}

// want changes what epoll waits for.
static bool want(struct connection *c, bool output) {
	if (c->wants_output == output)
		return true;
	c->wants_output = output;
	return watch(EPOLL_CTL_MOD, c->fd, output ? EPOLLOUT : EPOLLIN, c) == 0;
}

// write_output writes what there is to write. It returns 1 when all of it is
// written, 0 when the rest has to wait, -1 when the connection is to be closed.
static int write_output(struct connection *c) {
	for (;;) {
		if (c->out_at == c->out_end) {
			c->out_at = 0;
			c->out_end = http_output(&c->http, c->out, sizeof c->out);
			if (c->out_end == 0)
				return 1;
		}
		ssize_t n = send(c->fd, c->out + c->out_at, c->out_end - c->out_at, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN && want(c, true) ? 0 : -1;
		c->out_at += n;
		if (c->out_at == c->out_end && http_idle(&c->http))
			c->deadline = now() + timeout;
	}
}

// serve goes on with a connection as far as possible. It returns false when the
// connection is to be closed.
static bool serve(struct connection *c) {
	for (int reads = 0;;) {
		int written = write_output(c);
		if (written <= 0)
			return written == 0;
		if (http_ended(&c->http) && !c->shut) {
			shutdown(c->fd, SHUT_WR);
			c->shut = true;
			c->deadline = now() + HTTP_LINGER;
		}
		if (c->in_at < c->in_end) {
			c->in_at += http_input(&c->http, c->in + c->in_at, c->in_end - c->in_at);
			continue;
		}
		if (reads++ == READS)
			return want(c, false);
		ssize_t n = read(c->fd, c->in, sizeof c->in);
		if (n < 0)
			return errno == EAGAIN && want(c, false);
		if (n == 0)
			return false; // a client that ends its side has its last response already
		c->in_at = 0;
		c->in_end = n;
	}
}

// expire closes the connections whose time is up.
static void expire(void) {
	static time_t last;
	time_t t = now();
	if (t == last)
		return;
	last = t;
	for (size_t i = count; i-- > 0;) {
		if (connections[i]->deadline <= t)
			close_connection(connections[i]);
	}
}

static void listen_on(int port) {
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int on = 1;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener < 0)
		die("socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0)
		die("bind");
	if (listen(listener, BACKLOG) < 0)
		die("listen");
}

// catch_signals has those that end a service come through a descriptor: the
// first process of a system is not ended by them otherwise.
static void catch_signals(void) {
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0)
		die("signalfd");
	signal(SIGCHLD, SIG_IGN); // the first process inherits others' children
}

static void loop(void) {
	struct epoll_event events[64];
	for (;;) {
		int n = epoll_wait(epoll, events, sizeof events / sizeof *events, count > 0 ? 1000 : -1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == &signals)
				return;
			if (events[i].data.ptr == &listener) {
				accept_connection();
				continue;
			}
			struct connection *c = events[i].data.ptr;
			if (!serve(c))
				close_connection(c);
		}
		expire();
	}
}

static long number(const char *text, long most) {
	char *end;
	long n = strtol(text, &end, 10);
	if (*end || n < 1 || n > most) {
		fprintf(stderr, "rest: %s is not a number from 1 to %ld\nusage: rest [PORT [SECONDS]]\n", text, most);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv) {
	int port = argc > 1 ? number(argv[1], 65535) : HTTP_PORT;
	if (argc > 2)
		timeout = number(argv[2], 86400);
	catch_signals();
	listen_on(port);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0 || watch(EPOLL_CTL_ADD, listener, EPOLLIN, &listener) < 0 ||
	    watch(EPOLL_CTL_ADD, signals, EPOLLIN, &signals) < 0)
		die("epoll");
	printf("rest: listening on port %d\n", port);
	fflush(stdout);
	loop();
	if (getpid() == 1)
		reboot(RB_POWER_OFF); // of a machine; a container may not, and ends with us
	return 0;
}
