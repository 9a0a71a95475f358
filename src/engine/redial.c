// SPDX-License-Identifier: BSD-3-Clause
// Calling a lost side again, on a thread of its own.
#include "engine/redial.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/side.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 5000
#define HOPELESS_MS  10000 /* a wrong password, a missing right */
#define SLICE_MS     50

struct redial {
    struct redial_config cfg;
    struct psync_request psync;
    char replid[41];
    pthread_t thread;
    atomic_bool leave; /* the owner wants no more */
    pthread_mutex_t lock;
    /* under the lock */
    int state; /* 0: trying, 1: result, -1: given up, 2: result taken */
    struct redial_result result;
    struct err err; /* the last failure */
};

static void release_result(struct redial_result *r)
{
    client_close(r->client);
    client_close(r->probe);
    psync_release(&r->psync);
    facts_release(&r->facts);
    *r = (struct redial_result){0};
}

static int check(const struct redial *d, const struct server_facts *f, struct err *err)
{
    if (f->loading) return err_set(err, ERR_BUSY, "%s: is loading its data", d->cfg.name);
    if (d->cfg.primary && f->role == FACTS_REPLICA)
        return err_set(err, ERR_BUSY, "%s: is a replica (of %s:%s) now", d->cfg.name,
                       f->primary_host, f->primary_port);
    return 0;
}

static int try_once(struct redial *d, struct redial_result *ret, struct err *err)
{
    struct client_config cfg = task_side_client(d->cfg.side, d->cfg.name, d->cfg.connect_timeout_ms,
                                                d->cfg.io_timeout_ms, &d->leave);
    if (d->cfg.psync && d->cfg.psync->replid) cfg.resume_offset = d->cfg.psync->offset;
    if (client_open(&ret->client, &cfg, err) < 0 || facts_read(ret->client, &ret->facts, err) < 0 ||
        check(d, &ret->facts, err) < 0)
        return -1;
    if (!d->cfg.psync) return 0;
    if (task_side_probe(&ret->probe, cfg, ret->client, ret->facts.role == FACTS_REPLICA, err) < 0)
        return -1;
    struct client *c = ret->client;
    ret->client = NULL;
    d->psync.facts = &ret->facts;
    return psync_start(&ret->psync, c, &d->psync, err);
}

static bool is_over(const struct redial *d)
{
    return d->leave || (d->cfg.stop && *d->cfg.stop);
}

static int64_t jitter(int64_t ms)
{
    uint16_t n = 0;
    if (getrandom(&n, sizeof(n), 0) != sizeof(n)) n = 0;
    return ms / 2 + ms * n / UINT16_MAX;
}

static void wait_ms(const struct redial *d, int64_t ms)
{
    int64_t until = clock_mono_ms() + ms;
    for (int64_t now = clock_mono_ms(); now < until && !is_over(d); now = clock_mono_ms())
        poll(NULL, 0, until - now < SLICE_MS ? (int)(until - now) : SLICE_MS);
}

static void set_state(struct redial *d, int state, const struct redial_result *result,
                      const struct err *err)
{
    pthread_mutex_lock(&d->lock);
    d->state = state;
    if (result) d->result = *result;
    if (err) d->err = *err;
    pthread_mutex_unlock(&d->lock);
}

/* When to give up, of a failure that has lasted since `since` (hopeless ones since `hopeless`). */
static bool is_hopeless(enum err_code code)
{
    return code == ERR_AUTH || code == ERR_PERM || code == ERR_TLS || code == ERR_PROTO;
}

static void *call(void *arg)
{
    struct redial *d = arg;
    int64_t began = clock_mono_ms(), hopeless = 0, pause = PAUSE_MIN_MS;
    for (;;) {
        struct redial_result got = {0};
        struct err err = {0};
        if (is_over(d)) break;
        if (try_once(d, &got, &err) == 0) {
            set_state(d, 1, &got, NULL);
            return NULL;
        }
        release_result(&got);
        int64_t now = clock_mono_ms();
        if (!is_hopeless(err.code)) hopeless = 0;
        if (is_hopeless(err.code) && !hopeless) hopeless = now;
        if (now - began >= d->cfg.give_up_ms || (hopeless && now - hopeless >= HOPELESS_MS)) {
            err_wrap(&err, "gave up after %lld s (--retry-time waits longer)",
                     (long long)((now - began) / 1000));
            set_state(d, -1, NULL, &err);
            return NULL;
        }
        set_state(d, 0, NULL, &err);
        log_debug("%s; again", err.msg);
        wait_ms(d, jitter(pause));
        pause = pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : pause * 2;
    }
    struct err err;
    err_set(&err, ERR_STOPPED, "stopped");
    set_state(d, -1, NULL, &err);
    return NULL;
}

static int start_thread(struct redial *d, struct err *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are others' business */
    int rc = pthread_create(&d->thread, NULL, call, d);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? 0 : err_set(err, ERR_NOMEM, "cannot start a thread: %s", strerror(rc));
}

int redial_start(struct redial **ret, const struct redial_config *cfg, struct err *err)
{
    struct redial *d = calloc(1, sizeof(*d));
    if (!d) return err_set(err, ERR_NOMEM, "out of memory");
    d->cfg = *cfg;
    if (cfg->psync) {
        d->psync = *cfg->psync;
        d->psync.stop = &d->leave;
        d->psync.tick = NULL;
        if (cfg->psync->replid) {
            snprintf(d->replid, sizeof(d->replid), "%s", cfg->psync->replid);
            d->psync.replid = d->replid;
        }
        d->cfg.psync = &d->psync;
    }
    pthread_mutex_init(&d->lock, NULL);
    if (start_thread(d, err) < 0) {
        pthread_mutex_destroy(&d->lock);
        free(d);
        return -1;
    }
    *ret = d;
    return 0;
}

int redial_poll(struct redial *d, struct redial_result *ret, struct err *err)
{
    pthread_mutex_lock(&d->lock);
    int state = d->state;
    if (state == 1) {
        *ret = d->result;
        d->result = (struct redial_result){0};
        d->state = 2;
        if (ret->client) client_stop_by(ret->client, d->cfg.stop);
        if (ret->probe) client_stop_by(ret->probe, d->cfg.stop);
    } else if (state < 0) {
        *err = d->err;
    }
    pthread_mutex_unlock(&d->lock);
    return state;
}

char *redial_why(struct redial *d, char *out, size_t size)
{
    pthread_mutex_lock(&d->lock);
    snprintf(out, size, "%s", d->err.msg);
    pthread_mutex_unlock(&d->lock);
    return out;
}

void redial_free(struct redial *d)
{
    if (!d) return;
    d->leave = true;
    pthread_join(d->thread, NULL);
    release_result(&d->result);
    pthread_mutex_destroy(&d->lock);
    free(d);
}
