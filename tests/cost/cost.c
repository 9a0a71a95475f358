// SPDX-License-Identifier: BSD-3-Clause
// Fixed work, to be counted in instructions: `cost NAME` does one piece of it between cost_run()'s
// beginning and end, and prints how many units it was; `cost` lists the names. tools/check-cost
// runs it under callgrind.
#include "input.h"
#include "sham_conn.h"

#include "base/clock.h"
#include "engine/fan_impl.h"
#include "engine/inspect.h"
#include "engine/load.h"
#include "engine/replay.h"
#include "redis/suppose.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WALL_MS    1700000000000
#define CHECKPOINT "keyhaul:checkpoint:cost"
#define REPLID     "0123456789abcdef0123456789abcdef01234567"
#define WORK_BYTES (64u << 20)
#define ROUTED     200000u

struct cost {
    struct buf in;
    uint64_t units;   /* keys or commands */
    uint64_t reached; /* what came out of it, as a check */
    bool routed;
    char dir[40];
    struct err err;
    atomic_bool stop;
    struct counters counters;
    struct task_config task;
    struct server_facts server;
    struct pipeline pl;
    struct load load;
    struct replay replay;
    struct batch_checkpoint mark;
    struct buf fence;
    struct digest *digest;
    struct inspect inspect;
    struct fan fan;
    struct batch batch;
    struct slot_set slots;
};

struct work {
    const char *name, *what;
    void (*prepare)(struct cost *c);
    void (*run)(struct cost *c);
};

/* Only what is done in here is counted. */
void cost_run(const struct work *w, struct cost *c);

static int64_t fixed_wall(void)
{
    return WALL_MS;
}

static void must(struct cost *c, int rc)
{
    if (rc >= 0) return;
    fprintf(stderr, "cost: %s\n", c->err.msg);
    exit(1);
}

/* --- inspect --- */

static void prepare_mixed(struct cost *c)
{
    c->units = 20000;
    input_rdb(&c->in, INPUT_MIXED, (unsigned)c->units);
    must(c, inspect_init(&c->inspect, &c->err));
}

static void prepare_digests(struct cost *c, enum input_kind kind, unsigned keys)
{
    c->units = keys;
    input_rdb(&c->in, kind, keys);
    must(c, inspect_init(&c->inspect, &c->err));
    must(c, digest_new(&c->digest, c->dir, &c->err));
}

static void prepare_mixed_digests(struct cost *c)
{
    prepare_digests(c, INPUT_MIXED, 7000);
}

static void prepare_hash_digests(struct cost *c)
{
    prepare_digests(c, INPUT_HASHES, 1000);
}

static void prepare_compressed_digests(struct cost *c)
{
    prepare_digests(c, INPUT_COMPRESSED, 5000);
}

static int on_key(void *ctx, const struct inspect_key *key, struct err *err)
{
    (void)err;
    struct cost *c = ctx;
    c->reached += key->digest.counted;
    return 0;
}

static void run_inspect(struct cost *c)
{
    struct reader r;
    struct inspect_config cfg = {
        .top = 10, .now_ms = WALL_MS, .digest = c->digest, .on_key = on_key, .ctx = c};
    reader_init_mem(&r, c->in.p, c->in.n);
    must(c, inspect_run(&c->inspect, &cfg, &r, &c->err));
    if (!c->digest) c->reached = c->inspect.all.keys;
}

/* --- which keys, and where to --- */

static void prepare_routes(struct cost *c)
{
    c->units = ROUTED;
    must(c, db_select_parse(&c->task.select, "0-3,7", &c->err));
    must(c, db_select_parse_map(&c->task.select, "0:5,3:0", &c->err));
    must(c, key_select_parse(&c->task.keys, "user:*,{session:[0-9]*", "user:*:temp", &c->err));
    slot_set_fill(&c->slots);
    buf_init(&c->in, WORK_BYTES);
    for (unsigned i = 0; i < ROUTED; i++)
        must(c, buf_printf(&c->in, &c->err, i % 4 ? "user:%08u:name%c" : "{session:%08u}%c", i, 0));
}

static void run_routes(struct cost *c)
{
    const char *at = (const char *)c->in.p, *end = at + c->in.n;
    for (unsigned i = 0; at < end; i++) {
        struct span key = span_str(at);
        c->reached += key_selected(&c->task.keys, key) && slot_set_has_key(&c->slots, key);
        if (db_select_target(&c->task.select, i % 4) > 16384) c->reached = 0;
        at += key.n + 1;
    }
}

/* --- the load --- */

static void open_pipeline(struct cost *c)
{
    static char told[CHECKPOINT_VALUE_MAX];
    struct checkpoint at = {
        .kind = CHECKPOINT_STREAM, .replid = REPLID, .offset = 1, .owner = "0000000a"};
    checkpoint_put(told, &at);
    c->task.on_conflict = TASK_CONFLICT_OVERWRITE;
    c->task.io_timeout_ms = 60000;
    c->task.retry_time_ms = 1000;
    must(c, db_select_parse(&c->task.select, NULL, &c->err));
    must(c, suppose_server(&c->server, "redis-7.0", &c->err));
    c->server.databases = 16;
    c->server.proto_max_bulk_len = 512 << 20;
    struct pipeline_config cfg = {.task = &c->task,
                                  .counters = &c->counters,
                                  .stop = &c->stop,
                                  .source = sham_source(buf_span(&c->in)),
                                  .target = sham_target(told),
                                  .spool_config = {.ram_bytes = PIPELINE_RING_BYTES,
                                                   .dir = c->dir,
                                                   .max_disk_bytes = 1 << 30},
                                  .ack = true,
                                  .hold = true,
                                  .hold_exact = true,
                                  .offset = 1000};
    must(c, pipeline_init(&c->pl, &cfg, &c->err));
}

static void prepare_load(struct cost *c, enum input_kind kind, unsigned keys)
{
    c->units = keys;
    input_rdb(&c->in, kind, keys);
    open_pipeline(c);
    struct load_config cfg = {
        .pl = &c->pl, .target = &c->server, .store_dir = c->dir, .store_max_bytes = 1 << 30};
    must(c, load_init(&c->load, &cfg, &c->err));
}

static void prepare_load_strings(struct cost *c)
{
    prepare_load(c, INPUT_STRINGS, 20000);
}

static void prepare_load_hashes(struct cost *c)
{
    prepare_load(c, INPUT_HASHES, 5000);
}

static void prepare_load_mixed(struct cost *c)
{
    prepare_load(c, INPUT_MIXED, 20000);
}

static void run_load(struct cost *c)
{
    must(c, load_run(&c->load, &c->err));
    c->reached = counter_get(&c->counters.keys_written);
}

/* --- the stream --- */

static void prepare_stream(struct cost *c)
{
    input_stream(&c->in, 2000, &c->units);
    open_pipeline(c);
    c->mark = (struct batch_checkpoint){
        .key = span_str(CHECKPOINT), .owner = "0000000a", .replid = REPLID};
    struct span watch[] = {span_str("WATCH"), c->mark.key}, get[] = {span_str("GET"), c->mark.key};
    buf_init(&c->fence, WORK_BYTES);
    must(c, resp_put_cmd(&c->fence, 2, watch, &c->err));
    must(c, resp_put_cmd(&c->fence, 2, get, &c->err));
    c->pl.lane.fence = buf_span(&c->fence);
    c->pl.lane.fence_down = true;
    pipeline_begin_stream(&c->pl);
    struct replay_config cfg = {.pl = &c->pl,
                                .source = &c->server,
                                .target = &c->server,
                                .store_dir = c->dir,
                                .store_max_bytes = 1 << 30,
                                .checkpoint = &c->mark};
    must(c, replay_init(&c->replay, &cfg, &c->err));
}

/* Ends with the source: what it has sent is applied. */
static void run_stream(struct cost *c)
{
    if (replay_run(&c->replay, &c->err) == 0 || c->err.code != ERR_NET) must(c, -1);
    c->reached = counter_get(&c->counters.commands_written);
}

/* --- a batch into the slots of a cluster --- */

static void put_command(struct cost *c, const struct resp_cmd *cmd)
{
    const struct cmd_info *info = cmd_find(cmd->argv[0]);
    size_t at = info ? cmd_only_key(info, cmd->argc) : 0;
    must(c, batch_args(&c->batch, cmd->argc, cmd->argv, &c->err));
    if (at)
        batch_route(&c->batch, slot_of(cmd->argv[at]),
                    cmd_is_idempotent(info, cmd->argc, cmd->argv));
}

static void prepare_split(struct cost *c)
{
    struct fan_stream *s = c->fan.stream = calloc(1, sizeof(*s));
    must(c, s ? 0 : -1);
    struct buf *all[] = {&s->pieces, &s->groups, &s->extra, &s->argv, &s->index, &s->text};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        buf_init(all[i], WORK_BYTES);
    batch_init(&c->batch, c->dir, 1 << 30);
    c->batch.routed = c->routed;
    must(c, batch_begin(&c->batch, 0, &c->err));
    struct reader r;
    struct resp_cmds parser;
    struct resp_cmd cmd;
    input_stream(&c->in, 1000, &c->units);
    reader_init_mem(&r, c->in.p, c->in.n);
    resp_cmds_init(&parser);
    c->units = 0;
    while (r.p < r.end) {
        must(c, resp_cmd_next(&parser, &r, WORK_BYTES, &cmd, &c->err));
        reader_release(&r);
        if (cmd.argc < 2 || span_is(cmd.argv[0], "SELECT")) continue;
        put_command(c, &cmd);
        batch_mark_at(&c->batch, 1000 + ++c->units, 0);
    }
    c->batch.end_offset = 1000 + c->units;
}

static void prepare_routed_split(struct cost *c)
{
    c->routed = true;
    prepare_split(c);
}

static void run_split(struct cost *c)
{
    struct fan_cmd next;
    fan_split_begin(c->fan.stream);
    int rc = fan_split(&c->fan, &c->batch, &next, &c->err);
    must(c, rc);
    c->reached = c->fan.stream->next_n;
}

/* --- all of them --- */

static const struct work works[] = {
    {"pass", "mixed keys passed over (inspect)", prepare_mixed, run_inspect},
    {"decode-mixed", "mixed keys decoded, sorted and hashed", prepare_mixed_digests, run_inspect},
    {"decode-hashes", "hashes of 20 fields, the same", prepare_hash_digests, run_inspect},
    {"decode-compressed", "compressed strings, the same", prepare_compressed_digests, run_inspect},
    {"route", "keys selected by name, slot and database", prepare_routes, run_routes},
    {"load-strings", "strings of 100 B into a lane", prepare_load_strings, run_load},
    {"load-hashes", "hashes of 20 fields into a lane", prepare_load_hashes, run_load},
    {"load-mixed", "mixed keys, half with an expiry, into a lane", prepare_load_mixed, run_load},
    {"stream", "commands into batches with checkpoints", prepare_stream, run_stream},
    {"split", "commands of a batch to their slots, each looked at", prepare_split, run_split},
    {"split-routed", "the same, their slots known", prepare_routed_split, run_split},
};
#define WORKS (sizeof(works) / sizeof(works[0]))

__attribute__((noinline)) void cost_run(const struct work *w, struct cost *c)
{
    w->run(c);
}

static void do_work(const struct work *w)
{
    static struct cost c;
    snprintf(c.dir, sizeof(c.dir), "/tmp/keyhaul-cost-XXXXXX");
    if (!mkdtemp(c.dir)) exit(1);
    clock_set_wall(fixed_wall);
    w->prepare(&c);
    cost_run(w, &c);
    spool_close(c.pl.spool);
    rmdir(c.dir);
    if (c.reached != c.units) {
        fprintf(stderr, "cost: %s: %llu of %llu came out\n", w->name, (unsigned long long)c.reached,
                (unsigned long long)c.units);
        exit(1);
    }
    printf("%llu\n", (unsigned long long)c.units);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < WORKS; i++) {
        if (argc < 2) printf("%s\t%s\n", works[i].name, works[i].what);
        if (argc < 2 || strcmp(argv[1], works[i].name) != 0) continue;
        do_work(&works[i]);
        return 0;
    }
    return argc < 2 ? 0 : 2;
}
