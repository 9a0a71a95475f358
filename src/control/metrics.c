// SPDX-License-Identifier: BSD-3-Clause
// Counters to JSON.
#include "control/metrics.h"

#include <unistd.h>

void metrics_take(struct metrics *ret, struct counters *c, int64_t wall_ms, int64_t mono_ms)
{
    ret->wall_ms = wall_ms;
    ret->mono_ms = mono_ms;
#define X(name, help) ret->name = counter_get(&c->name);
    COUNTERS_TABLE(X)
#undef X
    for (unsigned i = 0; i < COUNTERS_DBS; i++)
        ret->db[i] = (struct metrics_db){
            .keys = counter_get(&c->db[i].keys),
            .bytes = counter_get(&c->db[i].bytes),
            .commands = counter_get(&c->db[i].commands),
            .skipped = counter_get(&c->db[i].skipped),
            .errors = counter_get(&c->db[i].errors),
        };
    counters_get_why(c, ret->waiting_why);
}

const char *metrics_phase_name(uint64_t phase, bool file)
{
    static const char *const name[] = {
        [PHASE_CONNECT] = "connect",     [PHASE_CHECK] = "check",
        [PHASE_WAIT_DUMP] = "wait-dump", [PHASE_SNAPSHOT] = "snapshot",
        [PHASE_CATCH_UP] = "catch-up",   [PHASE_STREAM] = "stream",
        [PHASE_DONE] = "done",
    };
    if (file && phase == PHASE_SNAPSHOT) return "restore";
    return phase < sizeof(name) / sizeof(name[0]) ? name[phase] : "unknown";
}

bool metrics_db_used(const struct metrics_db *db)
{
    return db->keys || db->bytes || db->commands || db->skipped || db->errors;
}

static void put_side(struct text *t, const char *name, const char *uri, const char *server)
{
    text_json_name(t, name);
    text_json_open(t, '{');
    text_json_text(t, "uri", uri);
    text_json_text(t, "server", server && *server ? server : NULL);
    text_add(t, "}");
}

void metrics_json_file(struct text *t, const char *which, const char *file)
{
    text_json_name(t, which);
    text_json_open(t, '{');
    text_json_text(t, "file", file);
    text_add(t, "}");
}

static void put_counters(struct text *t, const struct metrics *m)
{
    text_json_name(t, "counters");
    text_json_open(t, '{');
#define X(name, help) text_json_u64(t, #name, m->name);
    COUNTERS_TABLE(X)
#undef X
    text_add(t, "}");
}

static void put_databases(struct text *t, const struct metrics *m)
{
    text_json_name(t, "databases");
    text_json_open(t, '[');
    for (unsigned i = 0; i < COUNTERS_DBS; i++) {
        if (!metrics_db_used(&m->db[i])) continue;
        text_json_open(t, '{');
        text_json_u64(t, "db", i);
        text_json_u64(t, "keys", m->db[i].keys);
        text_json_u64(t, "skipped", m->db[i].skipped);
        text_json_u64(t, "bytes", m->db[i].bytes);
        text_json_u64(t, "commands", m->db[i].commands);
        text_json_u64(t, "errors", m->db[i].errors);
        text_add(t, "}");
    }
    text_add(t, "]");
}

static void put_end(struct text *t, const struct metrics_end *end)
{
    text_json_text(t, "outcome", end ? end->outcome : NULL);
    text_json_text(t, "error", end && end->err ? end->err->msg : NULL);
    text_json_name(t, "exit_status");
    if (end)
        text_printf(t, "%d", end->exit_status);
    else
        text_add(t, "null");
}

static void put_shard(struct text *t, const struct shard_look *s)
{
    text_json_open(t, '{');
    text_json_u64(t, "shard", s->number);
    text_json_text(t, "address", s->address);
    text_json_u64(t, "slots", s->slots);
    text_json_text(t, "phase", s->ended ? "ended" : metrics_phase_name(s->phase, false));
    text_json_u64(t, "waiting_for", s->waiting_for);
    text_json_u64(t, "lag_bytes", s->lag_bytes);
    text_json_u64(t, "slots_unsettled", s->slots_unsettled);
    text_json_u64(t, "lag_ms", s->lag_ms);
    text_json_u64(t, "keys_written", s->keys_written);
    text_json_u64(t, "keys_skipped", s->keys_skipped);
    text_json_u64(t, "commands_written", s->commands_written);
    text_json_known(t, "per_s", s->per_s);
    text_json_u64(t, "errors", s->errors);
    text_json_u64(t, "bytes_read", s->bytes_read);
    text_json_u64(t, "bytes_waiting", s->bytes_waiting);
    text_json_u64(t, "snapshot_bytes_total", s->snapshot_bytes_total);
    text_json_u64(t, "snapshot_bytes_decoded", s->snapshot_bytes_decoded);
    text_json_u64(t, "source_offset", s->source_offset);
    text_json_u64(t, "received_offset", s->received_offset);
    text_json_u64(t, "applied_offset", s->applied_offset);
    text_add(t, "}");
}

void metrics_json_shards(struct text *t, const struct shards_look *shards)
{
    if (!shards || shards->n == 0) return;
    text_json_name(t, "shards");
    text_json_open(t, '[');
    for (unsigned i = 0; i < shards->n; i++)
        put_shard(t, &shards->item[i]);
    text_add(t, "]");
}

void metrics_json(struct text *t, const struct metrics *m, const struct shards_look *shards,
                  const struct task_config *cfg, const struct metrics_end *end)
{
    const struct task_facts *facts = end ? end->facts : NULL;
    text_json_open(t, '{');
    text_json_u64(t, "schema", METRICS_SCHEMA);
    text_json_text(t, "version", KEYHAUL_VERSION);
    text_json_i64(t, "pid", getpid());
    text_json_i64(t, "wall_ms", m->wall_ms);
    text_json_i64(t, "mono_ms", m->mono_ms);
    text_json_text(t, "phase", metrics_phase_name(m->phase, cfg->file));
    put_end(t, end);
    text_json_text(t, "waiting_why", !end && m->waiting_for ? m->waiting_why : NULL);
    if (cfg->file)
        metrics_json_file(t, "source", cfg->file);
    else
        put_side(t, "source", cfg->source.uri.shown, facts ? facts->source_name : NULL);
    if (cfg->backup)
        metrics_json_file(t, "target", cfg->backup);
    else
        put_side(t, "target", cfg->target.uri.shown, facts ? facts->target_name : NULL);
    put_counters(t, m);
    put_databases(t, m);
    metrics_json_shards(t, shards);
    text_add(t, "}\n");
}
