// SPDX-License-Identifier: BSD-3-Clause
// The queue of held deadlines.
#include "engine/hold_notes.h"

#define MEM_BYTES (1u << 20)  /* of each store */
#define IO_BYTES  (64u << 10) /* written or read at once */

void hold_notes_init(struct hold_notes *q, size_t key_max, const char *dir, uint64_t max_bytes)
{
    *q = (struct hold_notes){.to = 0};
    for (int i = 0; i < 2; i++)
        store_init(&q->st[i], MEM_BYTES, max_bytes, dir);
    buf_init(&q->out, 2 * IO_BYTES);
    buf_init(&q->in, sizeof(struct hold_note) + key_max + IO_BYTES);
}

void hold_notes_release(struct hold_notes *q)
{
    for (int i = 0; i < 2; i++)
        store_release(&q->st[i]);
    buf_release(&q->out);
    buf_release(&q->in);
}

void hold_notes_clear(struct hold_notes *q)
{
    for (int i = 0; i < 2; i++)
        store_clear(&q->st[i]);
    buf_clear(&q->out);
    buf_trim(&q->in, IO_BYTES);
    q->in.n = 0;
    q->in_at = q->at = q->next = 0;
}

static int flush(struct hold_notes *q, struct err *err)
{
    struct store *s = &q->st[q->to];
    uint64_t before = store_size(s);
    if (store_add(s, q->out.p, q->out.n, err) < 0) {
        store_cut(s, before);
        return -1;
    }
    buf_clear(&q->out);
    return 0;
}

static int add_to_store(struct hold_notes *q, const struct hold_note *note, struct span key,
                        struct err *err)
{
    struct store *s = &q->st[q->to];
    uint64_t before = store_size(s);
    if (store_add(s, note, sizeof(*note), err) == 0 && store_add(s, key.p, key.n, err) == 0)
        return 0;
    store_cut(s, before);
    return -1;
}

static int add_to_out(struct hold_notes *q, const struct hold_note *note, struct span key,
                      struct err *err)
{
    if (buf_reserve(&q->out, sizeof(*note) + key.n, err) < 0) return -1;
    memcpy(q->out.p + q->out.n, note, sizeof(*note));
    if (key.n) memcpy(q->out.p + q->out.n + sizeof(*note), key.p, key.n);
    q->out.n += sizeof(*note) + key.n;
    return 0;
}

int hold_notes_add(struct hold_notes *q, const struct hold_note *note, struct span key,
                   struct err *err)
{
    size_t n = sizeof(*note) + key.n;
    if (q->out.n && q->out.n + n > IO_BYTES && flush(q, err) < 0) return -1;
    return (n > IO_BYTES ? add_to_store : add_to_out)(q, note, key, err);
}

static struct store *reading(struct hold_notes *q)
{
    return &q->st[!q->to];
}

/* The store that is read has been gone through: the other one takes its place. Should the newest
 * notes find no room there, they are left for the next one. */
static int turn(struct hold_notes *q, struct err *err)
{
    if (flush(q, err) < 0 && store_size(&q->st[q->to]) == 0) return -1;
    store_clear(reading(q));
    q->to = !q->to;
    q->in_at = q->at = q->next = 0;
    q->in.n = 0;
    return 0;
}

/* Have `need` bytes from q->next on in memory. */
static int read_ahead(struct hold_notes *q, size_t need, struct err *err)
{
    size_t gone = (size_t)(q->next - q->in_at), have = q->in.n - gone;
    if (have >= need) return 0;
    if (have) memmove(q->in.p, q->in.p + gone, have);
    q->in.n = have;
    q->in_at = q->next;
    size_t want = need > IO_BYTES ? need : IO_BYTES;
    if (buf_reserve(&q->in, want - have, err) < 0) return -1;
    ssize_t got = store_read(reading(q), q->in_at + have, q->in.p + have, want - have, err);
    if (got < 0) return -1;
    q->in.n += (size_t)got;
    return q->in.n >= need ? 0 : err_set(err, ERR_INTERNAL, "a held expiry does not read back");
}

int hold_notes_next(struct hold_notes *q, struct hold_note *ret, struct span *ret_key,
                    struct err *err)
{
    struct hold_note note;
    if (q->next == store_size(reading(q))) {
        bool none = store_size(&q->st[q->to]) == 0 && q->out.n == 0;
        if (none || q->next > q->at) return 0;
        if (turn(q, err) < 0) return -1;
    }
    if (read_ahead(q, sizeof(note), err) < 0) return -1;
    memcpy(&note, q->in.p + (q->next - q->in_at), sizeof(note));
    if (read_ahead(q, sizeof(note) + note.key_n, err) < 0) return -1;
    *ret_key = span_of(q->in.p + (q->next - q->in_at) + sizeof(note), note.key_n);
    *ret = note;
    return 1;
}

void hold_notes_pass(struct hold_notes *q, const struct hold_note *note)
{
    q->next += sizeof(*note) + note->key_n;
}

void hold_notes_drop(struct hold_notes *q)
{
    q->at = q->next;
}

void hold_notes_back(struct hold_notes *q)
{
    q->next = q->at;
    if (q->next >= q->in_at) return;
    q->in_at = q->next;
    q->in.n = 0;
}
