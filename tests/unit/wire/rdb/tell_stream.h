// SPDX-License-Identifier: BSD-3-Clause
// Events of a stream as text.
#ifndef TESTS_WIRE_RDB_TELL_STREAM_H
#define TESTS_WIRE_RDB_TELL_STREAM_H

#include "wire/rdb/stream.h"

#define U(x) ((unsigned long long)(x))

static inline int tell_stream_entry(struct buf *out, const struct rdb_stream_ev *ev)
{
    int rc = buf_printf(out, NULL, "E%llu-%llu", U(ev->id.ms), U(ev->id.seq));
    for (size_t i = 0; i < ev->n_fields; i++)
        rc |= buf_printf(out, NULL, ":%.*s", (int)ev->fields[i].n, (const char *)ev->fields[i].p);
    return rc;
}

static inline int tell_stream_meta(struct buf *out, const struct rdb_stream_meta *s)
{
    return buf_printf(out, NULL, "M%llu,%llu-%llu,%llu-%llu,%llu-%llu,%llu,%d", U(s->length),
                      U(s->last_id.ms), U(s->last_id.seq), U(s->first_id.ms), U(s->first_id.seq),
                      U(s->max_deleted_id.ms), U(s->max_deleted_id.seq), U(s->entries_added),
                      s->has_counters);
}

static inline int tell_stream(struct buf *out, const struct rdb_stream_ev *ev)
{
    int n = (int)ev->name.n;
    const char *s = (const char *)ev->name.p;
    unsigned long long ms = U(ev->id.ms), seq = U(ev->id.seq);
    switch (ev->kind) {
    case RDB_STREAM_ENTRY: return tell_stream_entry(out, ev);
    case RDB_STREAM_META: return tell_stream_meta(out, &ev->meta);
    case RDB_STREAM_GROUP:
        return buf_printf(out, NULL, "G%.*s,%llu-%llu,%lld", n, s, ms, seq,
                          (long long)ev->entries_read);
    case RDB_STREAM_PEL:
        return buf_printf(out, NULL, "P%llu-%llu,%lld,%llu", ms, seq, (long long)ev->time_ms,
                          U(ev->count));
    case RDB_STREAM_CONSUMER:
        return buf_printf(out, NULL, "C%.*s,%lld,%lld", n, s, (long long)ev->time_ms,
                          (long long)ev->active_ms);
    case RDB_STREAM_CONSUMER_PEL: return buf_printf(out, NULL, "o%llu-%llu", ms, seq);
    case RDB_STREAM_NACK: return buf_printf(out, NULL, "n%llu-%llu", ms, seq);
    case RDB_STREAM_IDMP_CONFIG: return buf_printf(out, NULL, "I%llu,%llu", U(ev->n), U(ev->count));
    case RDB_STREAM_IDMP_PRODUCER: return buf_printf(out, NULL, "p%.*s", n, s);
    case RDB_STREAM_IDMP_ID: return buf_printf(out, NULL, "i%.*s,%llu-%llu", n, s, ms, seq);
    case RDB_STREAM_END: return buf_printf(out, NULL, "X%llu,%llu", U(ev->n), U(ev->count));
    }
    return -1;
}

#endif
