// SPDX-License-Identifier: BSD-3-Clause
// All keys of a database, page by page.
#include "redis/scan.h"

#include "base/num.h"

#include <stdio.h>

#define COUNT_MIN  10 /* keys may be long: begin with small pages ... */
#define COUNT_MAX  1000
#define PAGE_SMALL (64u << 10) /* ... ask for more while they are smaller than this ... */
#define PAGE_LARGE (1u << 20)  /* ... and for fewer above */

void scan_begin(struct scan *s, struct client *c, const struct server_facts *facts)
{
    *s = (struct scan){.c = c,
                       .by_keys = facts && !facts_has(facts, FACTS_SCAN),
                       .cursor = "0",
                       .count = COUNT_MIN};
}

void scan_end(struct scan *s)
{
    reply_free(s->page);
    s->page = NULL;
}

/* Are they all strings? How long together. */
static int check_keys(const struct scan *s, const struct reply *keys, size_t *ret_bytes,
                      struct err *err)
{
    size_t bytes = 0;
    for (size_t i = 0; i < keys->n; i++) {
        if (keys->item[i].type != REPLY_STRING)
            return err_set(err, ERR_PROTO, "%s: SCAN gave a key that is no string",
                           client_name(s->c));
        bytes += keys->item[i].str.n;
    }
    *ret_bytes = bytes;
    return 0;
}

static void suit_count(struct scan *s, size_t bytes)
{
    if (bytes < PAGE_SMALL && s->count < COUNT_MAX)
        s->count = s->count * 2 > COUNT_MAX ? COUNT_MAX : s->count * 2;
    else if (bytes > PAGE_LARGE && s->count > 1)
        s->count /= 2;
}

static int ask_page(struct scan *s, struct err *err)
{
    char count[16];
    snprintf(count, sizeof(count), "%u", s->count);
    if (client_send(s->c, err, "SCAN", s->cursor, "COUNT", count, NULL) < 0) return -1;
    s->asked = true;
    return 0;
}

int scan_ahead(struct scan *s, struct err *err)
{
    if (s->over || s->by_keys || s->asked) return 0;
    return ask_page(s, err) < 0 ? -1 : client_flush(s->c, err);
}

static int next_page(struct scan *s, const struct reply **ret, struct err *err)
{
    if (!s->asked && ask_page(s, err) < 0) return -1;
    if (client_recv(s->c, &s->page, err) < 0) return -1;
    s->asked = false;
    if (reply_is_error(s->page)) return client_refused(s->c, "SCAN", s->page, err);
    const struct reply *cursor = reply_at(s->page, 0), *keys = reply_at(s->page, 1);
    uint64_t number;
    size_t bytes;
    if (!cursor || cursor->type != REPLY_STRING || !num_get_u64(cursor->str, &number) || !keys ||
        keys->type != REPLY_ARRAY)
        return err_set(err, ERR_PROTO, "%s: broken reply to SCAN", client_name(s->c));
    if (check_keys(s, keys, &bytes, err) < 0) return -1;
    snprintf(s->cursor, sizeof(s->cursor), "%llu", (unsigned long long)number);
    s->over = number == 0;
    suit_count(s, bytes);
    *ret = keys;
    return 1;
}

static int all_keys(struct scan *s, const struct reply **ret, struct err *err)
{
    size_t bytes;
    if (client_ask(s->c, &s->page, err, "DBSIZE", NULL) < 0) return -1;
    if (s->page->type != REPLY_INTEGER)
        return err_set(err, ERR_PROTO, "%s: DBSIZE was not answered with a number",
                       client_name(s->c));
    if (s->page->integer > SCAN_KEYS_MAX)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: is older than Redis 2.8 and has no SCAN; %lld keys are too many to be "
                       "listed at once (at most %d)",
                       client_name(s->c), (long long)s->page->integer, SCAN_KEYS_MAX);
    scan_end(s);
    if (client_ask(s->c, &s->page, err, "KEYS", "*", NULL) < 0) return -1;
    if (s->page->type != REPLY_ARRAY)
        return err_set(err, ERR_PROTO, "%s: broken reply to KEYS", client_name(s->c));
    if (check_keys(s, s->page, &bytes, err) < 0) return -1;
    s->over = true;
    *ret = s->page;
    return 1;
}

int scan_page(struct scan *s, const struct reply **ret, struct err *err)
{
    scan_end(s);
    if (s->over) return 0;
    if (client_stopped(s->c)) return err_set(err, ERR_STOPPED, "stopped");
    return s->by_keys ? all_keys(s, ret, err) : next_page(s, ret, err);
}
