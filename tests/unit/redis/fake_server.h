// SPDX-License-Identifier: BSD-3-Clause
// A server for tests that says what a script tells it to, on a Unix socket, in a thread.
#ifndef KEYHAUL_TEST_FAKE_SERVER_H
#define KEYHAUL_TEST_FAKE_SERVER_H

#include "redis/client.h"

#include <pthread.h>

/* Strict: the n-th step waits for one command that starts with `expect` (words joined by spaces;
 * NULL: waits for none), then sends `reply`. Loose (`any_order`): every command is answered by the
 * first step whose `expect` it starts with; none: "+OK". */
struct fake_step {
    const char *expect;
    const char *reply; /* NULL: nothing */
    size_t n;          /* bytes of reply, 0: strlen */
    int delay_ms;      /* before it */
    bool starve;       /* one byte per packet */
    bool hang_up;      /* after it */
};

struct fake_server {
    const struct fake_step *step;
    size_t n_steps;
    bool any_order;

    char dir[32], path[64];
    struct uri uri;
    int listener, fd; /* fd: of the one connection */
    pthread_t thread;
    pthread_mutex_t lock;
    char log[16384];   /* commands received, each followed by a newline */
    char failure[256]; /* "" or how the script was not followed */
};

void fake_start(struct fake_server *s, const struct fake_step *step, size_t n_steps,
                bool any_order);
/* Joins the thread; fails the test if the script was not followed. */
void fake_stop(struct fake_server *s);

/* Configuration to reach it, with short timeouts. */
struct client_config fake_config(const struct fake_server *s, const char *side);

#define FAKE_START(s, steps) fake_start(s, steps, sizeof(steps) / sizeof((steps)[0]), false)
#define FAKE_RULES(s, steps) fake_start(s, steps, sizeof(steps) / sizeof((steps)[0]), true)

#endif
