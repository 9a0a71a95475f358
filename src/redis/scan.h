// SPDX-License-Identifier: BSD-3-Clause
// All keys of a database, page by page: SCAN, in pages that suit how long the keys are.
//
//    scan_begin ── scan_page [scan_ahead] ... until 0 ── scan_end
//
// After scan_ahead() the server looks for the next page while this one is worked on; then the next
// reply of the client's is that of the scan, and scan_page() is to be called before others are
// taken.
//
// A key that is there all the time is given at least once, others may be (SCAN's promise). A server
// before 2.8 has KEYS only, which holds it up and answers at once: there a database of more than
// SCAN_KEYS_MAX keys is refused. One owner thread; the client may be used between pages, but must
// be in the same database for the next.
#ifndef KEYHAUL_REDIS_SCAN_H
#define KEYHAUL_REDIS_SCAN_H

#include "redis/facts.h"

#define SCAN_KEYS_MAX 100000

struct scan {
    struct client *c;
    bool by_keys; /* KEYS, once */
    bool over;
    bool asked; /* a reply is due */
    char cursor[24];
    unsigned count;
    struct reply *page;
};

/* Of the database that the client has selected. Nothing is asked yet. facts NULL: it has SCAN. */
void scan_begin(struct scan *s, struct client *c, const struct server_facts *facts);
void scan_end(struct scan *s);

/* 1: *ret is an array of keys, all strings, possibly none, until the next call. 0: that was all.
 * ERR_UNSUPPORTED: too many for KEYS. */
KH_MUST int scan_page(struct scan *s, const struct reply **ret, struct err *err);
/* Ask for the next page, if there is one. */
KH_MUST int scan_ahead(struct scan *s, struct err *err);

#endif
