// SPDX-License-Identifier: BSD-3-Clause
// A real redis-server for tests, on a Unix socket in a temporary folder (and a port where asked).
#ifndef KEYHAUL_TEST_LIVE_SERVER_H
#define KEYHAUL_TEST_LIVE_SERVER_H

#include "redis/client.h"

#include <sys/types.h>

struct live_server {
    char dir[32], path[64];
    struct uri uri;
    int port; /* on 127.0.0.1; 0 none */
    pid_t pid;
};

/* Start with extra arguments ("--requirepass", "x", NULL), wait until it listens. with_port: also
 * on a free port of 127.0.0.1. */
void live_start(struct live_server *s, bool with_port, const char *const *extra);
/* The same of another program than redis-server of PATH. */
void live_start_program(struct live_server *s, const char *program, bool with_port,
                        const char *const *extra);
void live_stop(struct live_server *s);

struct client_config live_config(const struct live_server *s, const char *side);
/* A client, or the test fails. */
struct client *live_client(const struct live_server *s, const char *side);
/* Where tests/servers puts what it fetches; maybe `out`. */
const char *live_folder(char *out, size_t size);
int live_free_port(void); /* of 127.0.0.1 */
/* One command that must not be answered by an error: words split at spaces. */
void live_do(struct client *c, const char *words);

#endif
