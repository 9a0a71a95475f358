// SPDX-License-Identifier: BSD-3-Clause
// The far end of one connection, in a thread: what the fake target and the fake source stand on.
#ifndef KEYHAUL_TEST_FAKE_LINK_H
#define KEYHAUL_TEST_FAKE_LINK_H

#include "base/span.h"
#include "io/conn.h"

#include <pthread.h>

struct fake_link {
    char dir[32], path[64];
    int listener, fd; /* fd: of the connection at hand */
    int wake[2];      /* closed at the other end: the thread has to end */
    bool starve;      /* write one byte, wait until it has been read, and so on */
    pthread_t thread;
};

/* Listen on a Unix socket in a folder of its own, and start the thread. */
void fake_link_start(struct fake_link *l, void *(*run)(void *), void *arg);
/* End the thread, whatever it does, and join it. */
void fake_link_stop(struct fake_link *l);
/* Connect to it, or the test fails. */
struct conn *fake_link_dial(const struct fake_link *l);

/* --- for the thread; false: it has to end --- */
bool fake_link_accept(struct fake_link *l);
/* Bytes read; 0: the other side has closed; -1: has to end. Waits at most wait_ms (-1: for ever);
 * -2: nothing came. */
ssize_t fake_link_read(struct fake_link *l, void *p, size_t n, int wait_ms);
bool fake_link_write(struct fake_link *l, const void *p, size_t n);
/* Wait until the other side has read everything. */
bool fake_link_settle(struct fake_link *l);
void fake_link_hang_up(struct fake_link *l);

#endif
