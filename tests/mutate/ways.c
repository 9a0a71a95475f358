// SPDX-License-Identifier: BSD-3-Clause
// Decoding a mutant: as `inspect` does for its lines and its report, as `restore` measures, walks
// and transcodes values.
//
// What they say must agree: a value that can be decoded can be passed over and ends at the same
// place; a starving reader sees the same; transcoded it holds the same.
#include "ways.h"

#include "engine/inspect.h"
#include "wire/rdb/transcode.h"

#include <stdlib.h>

#define CAP_BYTES  (16u << 20) /* what a reader holds: as io/feed.h */
#define VALUE_MAX  (7u << 20)
#define STARVE_MAX 4000
#define TURNED_MAX (16u << 20)

void ways_init(struct ways *w)
{
    struct err err;
    const char *dir = getenv("TMPDIR");
    *w = (struct ways){0};
    buf_init(&w->turned, TURNED_MAX);
    if (digest_new(&w->digest, dir ? dir : "/tmp", &err) < 0 ||
        walk_new(&w->walk, VALUE_MAX, &err) < 0 || rdb_elems_new(&w->elems, VALUE_MAX, &err) < 0)
        abort();
}

void ways_release(struct ways *w)
{
    digest_free(w->digest);
    walk_free(&w->walk);
    rdb_elems_free(w->elems);
    buf_release(&w->turned);
}

static bool has_sense(const struct err *err)
{
    return err->code != ERR_NONE && err->code != ERR_INTERNAL && err->msg[0];
}

static void open_reader(struct reader *r, const uint8_t *p, size_t n, bool starve)
{
    (starve ? reader_init_starving : reader_init_mem)(r, p, n);
    r->cap = CAP_BYTES;
}

/* What only hashing looks at: it puts together what is stored in two places. */
static bool told_by_hashing_only(const struct err *err)
{
    return strstr(err->msg, "a pending entry that its group does not have") != NULL;
}

/* Limits are reached at different places; else both ways see the same. */
static bool ends_agree(int hashed, const struct err *hash_err, int walked,
                       const struct err *walk_err)
{
    if (hashed == walked || hash_err->code == ERR_LIMIT || walk_err->code == ERR_LIMIT) return true;
    return hashed < 0 && told_by_hashing_only(hash_err);
}

/* --- files --- */

struct told {
    int rc;
    struct err err;
    uint64_t keys, bytes, sum;
};

static uint64_t mix(uint64_t sum, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ b[i]) * 0x100000001b3;
    return sum;
}

static int take_key(void *ctx, const struct inspect_key *key, struct err *err)
{
    struct told *t = ctx;
    (void)err;
    t->sum = mix(t->sum, key->name.p, key->name.n);
    t->sum = mix(t->sum, key->digest.content, DIGEST_BYTES);
    if (key->digest.has_state) t->sum = mix(t->sum, key->digest.state, DIGEST_BYTES);
    return 0;
}

static void inspect(struct digest *d, const struct mutant *m, bool starve, struct told *t)
{
    struct inspect in;
    struct reader r;
    struct inspect_config cfg = {.top = d ? 0 : 20, .digest = d, .on_key = take_key, .ctx = t};
    *t = (struct told){.err = {.code = ERR_NONE}};
    open_reader(&r, m->p, m->n, starve);
    if (inspect_init(&in, &t->err) < 0) abort();
    t->rc = inspect_run(&in, &cfg, &r, &t->err);
    t->keys = in.all.keys;
    t->bytes = reader_pos(&r);
    inspect_release(&in);
}

static int walk(struct ways *w, const struct mutant *m, bool release, struct err *err)
{
    struct reader r;
    open_reader(&r, m->p, m->n, false);
    w->walk.release = release;
    w->walk.skip_too = !release;
    return walk_file(&w->walk, &r, err);
}

static enum ways_result decode_file(struct ways *w, const struct mutant *m, const char **words)
{
    struct told lines, report, starved;
    struct err err = {.code = ERR_NONE};
    inspect(w->digest, m, false, &lines);
    inspect(NULL, m, false, &report);
    *words = "an error without sense";
    if ((lines.rc < 0 && !has_sense(&lines.err)) || (report.rc < 0 && !has_sense(&report.err)))
        return WAYS_WRONG;
    *words = "what is decoded cannot be passed over";
    if (lines.rc == 0 && (report.rc < 0 || report.keys != lines.keys)) return WAYS_WRONG;
    *words = "damage that the checksum should have told";
    if (lines.rc == 0 && m->checked && m->differs && lines.bytes == m->n) return WAYS_WRONG;
    *words = "walking ends otherwise than hashing";
    int rc = walk(w, m, m->n % 2, &err);
    if (rc < 0 && !has_sense(&err)) return WAYS_WRONG;
    if (!ends_agree(lines.rc, &lines.err, rc, &err)) return WAYS_WRONG;
    *words = "a value is passed over to another place than decoded";
    if (w->walk.skips_differ) return WAYS_WRONG;
    if (m->n <= STARVE_MAX) {
        inspect(w->digest, m, true, &starved);
        *words = "a starving reader sees another thing";
        if (starved.rc != lines.rc || starved.sum != lines.sum) return WAYS_WRONG;
    }
    return lines.rc < 0 ? WAYS_ERROR : WAYS_VALUE;
}

/* --- payloads --- */

struct value {
    const uint8_t *p;
    size_t n;
    enum rdb_type type;
    struct digest_result digest;
    uint64_t end; /* of the value, of the bytes */
};

static int hash_value(struct ways *w, struct value *v, bool starve, struct err *err)
{
    struct reader r;
    open_reader(&r, v->p, v->n, starve);
    if (digest_value(w->digest, &r, v->type, &v->digest, err) < 0) return -1;
    v->end = reader_pos(&r);
    return 0;
}

static bool same(const struct digest_result *a, const struct digest_result *b, bool state)
{
    if (memcmp(a->content, b->content, DIGEST_BYTES) != 0 || a->elements != b->elements)
        return false;
    if (!state) return true;
    return a->has_state == b->has_state &&
           (!a->has_state || memcmp(a->state, b->state, DIGEST_BYTES) == 0);
}

static bool is_wanted(const void *ctx, enum rdb_type type)
{
    return type == *(const enum rdb_type *)ctx;
}

/* Everything it may be turned into, and back to what it says. */
static enum ways_result turn(struct ways *w, const struct value *v, bool decoded,
                             const char **words)
{
    bool stream = rdb_kind_of(v->type) == RDB_KIND_STREAM; /* of an older type they keep less */
    for (unsigned want = 0; want <= RDB_VALKEY_HASH_2; want++) {
        struct transcode how = {.have = v->type, .want = (enum rdb_type)want, .allowed = ~0u};
        enum rdb_type chosen;
        struct err err = {.code = ERR_NONE};
        struct reader r;
        unsigned loss = 0;
        if (how.want == how.have ||
            !transcode_choose(how.have, is_wanted, &how.want, &chosen, &loss))
            continue;
        open_reader(&r, v->p, v->n, false);
        enum transcode_result res = transcode_value(&how, &r, w->elems, &w->turned, &loss, &err);
        *words = "transcoding: an error without sense";
        if (res == TRANSCODE_ERROR && !has_sense(&err)) return WAYS_WRONG;
        if (res != TRANSCODE_DONE) continue;
        *words = "transcoded, though it cannot be decoded";
        if (!decoded && stream) continue; /* their nodes are copied as they are */
        if (!decoded) return WAYS_WRONG;
        struct value made = {.p = w->turned.p, .n = w->turned.n, .type = how.want};
        *words = "what it was transcoded to cannot be decoded";
        if (hash_value(w, &made, false, &err) < 0 || made.end != made.n) return WAYS_WRONG;
        *words = "transcoded it is another value";
        if (!loss && !same(&v->digest, &made.digest, !stream)) return WAYS_WRONG;
    }
    return WAYS_VALUE;
}

static enum ways_result decode_payload(struct ways *w, const struct mutant *m, const char **words)
{
    struct value v = {.p = m->p + 1, .n = m->n - 1 - FOOT_BYTES};
    struct err err = {.code = ERR_NONE}, other = {.code = ERR_NONE};
    struct reader r;
    if (!payload_type(m->p, m->n, &v.type)) return WAYS_ERROR;
    int rc = hash_value(w, &v, false, &err);
    *words = "an error without sense";
    if (rc < 0 && !has_sense(&err)) return WAYS_WRONG;
    open_reader(&r, v.p, v.n, false);
    w->walk.release = m->n % 2;
    w->walk.skip_too = !w->walk.release;
    int walked = walk_key(&w->walk, &r, v.type, &other);
    *words = "walking ends otherwise than hashing";
    if (!ends_agree(rc, &err, walked, &other)) return WAYS_WRONG;
    *words = "a value is passed over to another place than decoded";
    if (w->walk.skips_differ || (rc == 0 && walked == 0 && v.end != reader_pos(&r)))
        return WAYS_WRONG;
    if (v.n <= STARVE_MAX) {
        struct value starved = v;
        *words = "a starving reader sees another thing";
        if (hash_value(w, &starved, true, &other) != rc) return WAYS_WRONG;
        if (rc == 0 && !same(&v.digest, &starved.digest, true)) return WAYS_WRONG;
    }
    if (turn(w, &v, rc == 0, words) == WAYS_WRONG) return WAYS_WRONG;
    return rc < 0 ? WAYS_ERROR : WAYS_VALUE;
}

enum ways_result ways_decode(struct ways *w, const struct mutant *m, const char **ret_words)
{
    w->walk.skips_differ = 0;
    return (m->of->file ? decode_file : decode_payload)(w, m, ret_words);
}
