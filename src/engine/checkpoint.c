// SPDX-License-Identifier: BSD-3-Clause
// The checkpoint as text.
#include "engine/checkpoint.h"

#include "base/num.h"

#include <ctype.h>
#include <string.h>

#define NO_ID "-" /* stands for a history without an id */

static char *put_word(char *at, const char *word)
{
    size_t n = strlen(word);
    *at++ = ' ';
    memcpy(at, word, n);
    return at + n;
}

static char *put_number(char *at, uint64_t n)
{
    *at++ = ' ';
    at += num_put_u64(at, n);
    return at;
}

/* Once for each batch: by hand. */
size_t checkpoint_put(char out[CHECKPOINT_VALUE_MAX], const struct checkpoint *c)
{
    bool loading = c->kind == CHECKPOINT_LOADING;
    *out = '1';
    char *at = put_word(put_word(out + 1, loading ? "loading" : "stream"), c->owner);
    if (!loading) {
        at = put_word(at, c->replid[0] ? c->replid : NO_ID);
        at = put_number(put_number(at, c->offset), c->db);
    }
    if (c->load[0]) at = put_word(at, c->load);
    *at = 0;
    return (size_t)(at - out);
}

static int strange(struct err *err)
{
    return err_set(err, ERR_FORMAT,
                   "the checkpoint on the target was not written by this version of keyhaul; go on "
                   "with the one that wrote it, or begin anew with --restart");
}

/* The next word, up to a space or the end. */
static struct span take_word(struct span *rest)
{
    const uint8_t *space = rest->n ? memchr(rest->p, ' ', rest->n) : NULL;
    size_t n = space ? (size_t)(space - rest->p) : rest->n;
    struct span word = span_of(rest->p, n);
    size_t gone = space ? n + 1 : n;
    *rest = span_of(rest->p + gone, rest->n - gone);
    return word;
}

static bool is_hex(struct span s, size_t n)
{
    for (size_t i = 0; i < s.n; i++)
        if (!isxdigit(s.p[i])) return false;
    return s.n == n;
}

static bool parse(struct checkpoint *ret, struct span rest)
{
    struct checkpoint c = {.kind = CHECKPOINT_LOADING};
    struct span version = take_word(&rest), kind = take_word(&rest), owner = take_word(&rest);
    if (!span_is(version, "1") || !is_hex(owner, sizeof(c.owner) - 1)) return false;
    memcpy(c.owner, owner.p, owner.n);
    if (span_is(kind, "stream")) {
        struct span id = take_word(&rest), offset = take_word(&rest), db = take_word(&rest);
        if (!span_is(id, NO_ID) && !is_hex(id, sizeof(c.replid) - 1)) return false;
        if (!num_get_u64(offset, &c.offset) || !num_get_u64(db, &c.db)) return false;
        if (c.offset > INT64_MAX || c.db > INT32_MAX) return false;
        if (id.n > 1) memcpy(c.replid, id.p, id.n);
        c.kind = CHECKPOINT_STREAM;
    } else if (!span_is(kind, "loading")) {
        return false;
    }
    struct span load = take_word(&rest);
    if (rest.n || (load.n && !is_hex(load, sizeof(c.load) - 1))) return false;
    if (load.n) memcpy(c.load, load.p, load.n);
    *ret = c;
    return true;
}

int checkpoint_parse(struct checkpoint *ret, struct span value, struct err *err)
{
    return parse(ret, value) ? 0 : strange(err);
}
