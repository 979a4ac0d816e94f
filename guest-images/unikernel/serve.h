// serve.h: the REST service on lwIP.
#ifndef SERVE_H
#define SERVE_H

// serve_init listens at the service's port.
void serve_init(void);

#endif
