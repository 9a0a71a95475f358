// SPDX-License-Identifier: BSD-3-Clause
// A batch: commands that reach the target in order, all or none.
#include "engine/batch.h"

#include "base/log.h"
#include "base/num.h"
#include "wire/cmd.h"

#include <stdarg.h>
#include <stdio.h>

static const char multi[] = "*1\r\n$5\r\nMULTI\r\n";
static const char exec[] = "*1\r\n$4\r\nEXEC\r\n";
#define MULTI_BYTES    (sizeof(multi) - 1)
#define NAME_MAX_BYTES 96
#define LONG_ARG_BYTES (64u << 10) /* goes into the store without a detour */
#define MARKS_BYTES    (16u << 20) /* of one batch: 700,000 */
#define ROUTES_BYTES   (16u << 20) /* of one batch: 1,000,000 */
#define OOM_TRIES      3           /* then a batch is taken apart */

void batch_init(struct batch *b, const char *store_dir, uint64_t max_bytes)
{
    *b = (struct batch){.db = -1};
    store_init(&b->st, BATCH_MEM_BYTES, max_bytes, store_dir);
    buf_init(&b->scratch, 64u << 20);
    buf_init(&b->marks, MARKS_BYTES);
    buf_init(&b->routes, ROUTES_BYTES);
}

void batch_release(struct batch *b)
{
    store_release(&b->st);
    buf_release(&b->scratch);
    buf_release(&b->marks);
    buf_release(&b->routes);
}

int batch_begin(struct batch *b, int64_t db, struct err *err)
{
    store_clear(&b->st);
    buf_clear(&b->marks);
    buf_clear(&b->routes);
    b->together = b->sealed = false;
    b->whole.n = 0;
    b->n = b->end_offset = b->end_db = b->data_cmds = 0;
    b->received_ms = 0;
    b->in_flight = false;
    b->db = db;
    if (store_add(&b->st, multi, MULTI_BYTES, err) < 0) return -1;
    batch_mark(b);
    return 0;
}

void batch_mark_at(struct batch *b, uint64_t offset, uint64_t db)
{
    struct batch_whole w = {b->n, offset, db, b->read};
    struct err ignored;
    if (b->n > b->whole.n && buf_add(&b->marks, &w, sizeof(w), &ignored) < 0) b->together = true;
    b->whole.bytes = store_size(&b->st);
    b->whole.n = b->n;
    b->whole.data_cmds = b->data_cmds;
    b->whole.db = b->db;
}

void batch_back(struct batch *b)
{
    size_t routes = (size_t)b->whole.n * sizeof(struct batch_route);
    store_cut(&b->st, b->whole.bytes);
    b->n = b->whole.n;
    if (b->routes.n > routes) b->routes.n = routes;
    b->data_cmds = b->whole.data_cmds;
    b->db = b->whole.db;
}

int batch_part(struct batch *b, const void *p, size_t n, struct err *err)
{
    return store_add(&b->st, p, n, err);
}

void batch_count(struct batch *b)
{
    struct err ignored;
    struct batch_route *r;
    bool all = b->routed && b->routes.n == b->n * sizeof(*r);
    b->n++;
    if (all && (r = buf_more(&b->routes, sizeof(*r), &ignored)) != NULL)
        *r = (struct batch_route){.to = store_size(&b->st)};
}

int batch_raw(struct batch *b, struct span cmd, struct err *err)
{
    if (store_put(&b->st, cmd.p, cmd.n, err) < 0) return -1;
    batch_count(b);
    return 0;
}

/* What stands in the scratch buffer, then a long argument, past it. */
static int add_long(struct batch *b, struct span arg, struct err *err)
{
    if (buf_printf(&b->scratch, err, "$%zu\r\n", arg.n) < 0 ||
        store_add(&b->st, b->scratch.p, b->scratch.n, err) < 0 ||
        store_add(&b->st, arg.p, arg.n, err) < 0)
        return -1;
    buf_clear(&b->scratch);
    return buf_add(&b->scratch, "\r\n", 2, err);
}

int batch_args(struct batch *b, size_t argc, const struct span *argv, struct err *err)
{
    buf_clear(&b->scratch);
    if (resp_put_head(&b->scratch, argc, err) < 0) return -1;
    for (size_t i = 0; i < argc; i++) {
        int rc = argv[i].n > LONG_ARG_BYTES ? add_long(b, argv[i], err)
                                            : resp_put_arg(&b->scratch, argv[i], err);
        if (rc < 0) return -1;
    }
    return batch_raw(b, buf_span(&b->scratch), err);
}

int batch_strs(struct batch *b, struct err *err, ...)
{
    struct span argv[16];
    size_t argc = 0;
    va_list ap;
    va_start(ap, err);
    for (const char *s; argc < 16 && (s = va_arg(ap, const char *)) != NULL;)
        argv[argc++] = span_str(s);
    va_end(ap);
    return batch_args(b, argc, argv, err);
}

int batch_select(struct batch *b, int64_t db, struct err *err)
{
    if (b->db == db) return 0;
    char num[24];
    snprintf(num, sizeof(num), "%lld", (long long)db);
    b->db = db;
    return batch_strs(b, err, "SELECT", num, NULL);
}

static struct checkpoint place(const struct batch_checkpoint *cp, uint64_t offset, uint64_t db)
{
    struct checkpoint c = {.kind = CHECKPOINT_STREAM, .offset = offset, .db = db};
    memcpy(c.replid, cp->replid, sizeof(c.replid));
    memcpy(c.owner, cp->owner, sizeof(c.owner));
    return c;
}

int batch_seal(struct batch *b, uint64_t offset, uint64_t db, struct err *err)
{
    const struct batch_checkpoint *cp = b->checkpoint;
    char value[CHECKPOINT_VALUE_MAX];
    if (!cp || b->sealed) return 0;
    struct checkpoint c = place(cp, offset, db);
    b->seal_at = b->n;
    if (batch_select(b, cp->db, err) < 0) return -1;
    struct span argv[] = {span_str("SET"), cp->key, span_of(value, checkpoint_put(value, &c))};
    b->sealed = true;
    return batch_args(b, 3, argv, err);
}

/* A single command needs no MULTI, unless it is to be fenced. */
static bool as_transaction(const struct batch *b)
{
    return b->n > 1 || b->sealed || b->guarded;
}

static int fenced_off(struct lane *l, struct err *err)
{
    l->lost = LANE_FENCED;
    return err_set(err, ERR_TARGET, "target: the checkpoint was touched by somebody else");
}

/* Is what the GET behind the WATCH has told still ours? A WATCH sees only what comes after it; and
 * behind a transaction that was refused, whose SELECT has not run, it is of another database's key.
 */
static bool is_ours(const struct batch *b, const struct lane *l)
{
    struct checkpoint at;
    struct err strange;
    return checkpoint_parse(&at, buf_span(&l->fence_told), &strange) == 0 &&
           strcmp(at.owner, b->checkpoint->owner) == 0;
}

static int call_fence(struct batch *b, struct lane *l, const char *name, struct err *err)
{
    struct span argv[] = {span_str(name), b->checkpoint->key};
    if (lane_call_strs(l, l->fence_db, 2, argv, err) < 0) return -1;
    if (l->outcome.last.type != '-') return 0;
    return err_set(err, ERR_TARGET, "target: %s was refused: %s", name, l->outcome.last.line);
}

/* Outside of a batch, when the last one did not bring it along; the lane is left as it was. */
static int raise_fence(struct batch *b, struct lane *l, struct err *err)
{
    int64_t db = l->db, since_ms = l->retry_since_ms, pause_ms = l->retry_pause_ms;
    l->retry_since_ms = 0; /* that it can be read does not mean that it takes writes again */
    if (call_fence(b, l, "WATCH", err) < 0) return -1;
    buf_clear(&l->fence_told);
    l->scan.keep_bulk = &l->fence_told;
    int rc = call_fence(b, l, "GET", err);
    l->scan.keep_bulk = NULL;
    if (rc < 0) return -1;
    if (!is_ours(b, l)) return fenced_off(l, err);
    l->fence_down = false;
    l->retry_since_ms = since_ms;
    l->retry_pause_ms = pause_ms;
    return db >= 0 ? lane_select(l, db, err) : 0;
}

int batch_send(struct batch *b, struct lane *l, struct err *err)
{
    unsigned fenced = l->fence.n && b->sealed ? 2 : 0; /* replies */
    bool guarded = l->fence.n && as_transaction(b) && (b->sealed || b->guarded);
    if (KH_UNLIKELY(guarded && l->fence_down) && raise_fence(b, l, err) < 0) return -1;
    b->in_flight = true;
    if (!as_transaction(b)) {
        struct lane_part one = {.store = &b->st, .from = MULTI_BYTES};
        return lane_call_begin(l, &one, 1, 1, err);
    }
    l->fence_down = !fenced; /* each EXEC ends a WATCH; behind a batch that is just guarded, another
                                database is selected */
    struct lane_part all[] = {
        {.store = &b->st}, {.mem = span_of(exec, sizeof(exec) - 1)}, {.mem = l->fence}};
    if (lane_call_begin(l, all, 2 + (fenced > 0), b->n + 2 + fenced, err) < 0) return -1;
    lane_call_main(l, fenced);
    buf_clear(&l->fence_told);
    l->scan.keep_bulk = fenced ? &l->fence_told : NULL;
    return 0;
}

/* --- naming what was refused: walk the bytes that were sent --- */

/* Read "<type><number>\r\n" at *at. */
static int walk_number(const struct store *st, uint64_t *at, char type, uint64_t *ret,
                       struct err *err)
{
    char line[32];
    ssize_t n = store_read(st, *at, line, sizeof(line), err);
    if (n < 0) return -1;
    const char *end = memchr(line, '\r', (size_t)n);
    if (!end || line[0] != type || !num_get_u64(span_of(line + 1, (size_t)(end - line - 1)), ret))
        return err_set(err, ERR_INTERNAL, "a batch does not read back");
    *at += (uint64_t)(end - line) + 2;
    return 0;
}

struct walked {
    uint64_t from, to; /* where the command lies in the store */
    char name[NAME_MAX_BYTES];
    uint8_t key[NAME_MAX_BYTES];
    size_t key_n;
    char arg1[24];
};

static ssize_t walk_text(const struct store *st, uint64_t at, uint64_t n, void *out, size_t size,
                         struct err *err)
{
    return store_read(st, at, out, n < size ? (size_t)n : size, err);
}

static int walk_arg(const struct store *st, struct walked *w, uint64_t i, uint64_t key_index,
                    struct err *err)
{
    uint64_t n;
    if (walk_number(st, &w->to, '$', &n, err) < 0) return -1;
    ssize_t got = 0;
    if (i == 0) {
        got = walk_text(st, w->to, n, w->name, sizeof(w->name) - 1, err);
        if (got >= 0) w->name[got] = 0;
    } else if (i == key_index) {
        got = walk_text(st, w->to, n, w->key, sizeof(w->key), err);
        w->key_n = got < 0 ? 0 : (size_t)got;
    }
    if (i == 1 && got >= 0) {
        got = walk_text(st, w->to, n, w->arg1, sizeof(w->arg1) - 1, err);
        if (got >= 0) w->arg1[got] = 0;
    }
    w->to += n + 2;
    return got < 0 ? -1 : 0;
}

/* The command that starts at w->to. */
static int walk_next(const struct store *st, struct walked *w, struct err *err)
{
    uint64_t argc, key_index = 0;
    w->from = w->to;
    w->key_n = 0;
    w->name[0] = w->arg1[0] = 0;
    if (walk_number(st, &w->to, '*', &argc, err) < 0) return -1;
    for (uint64_t i = 0; i < argc; i++) {
        if (walk_arg(st, w, i, key_index, err) < 0) return -1;
        if (i == 0) {
            const struct cmd_info *c = cmd_find(span_str(w->name));
            key_index = c && c->first_key > 0 ? (uint64_t)c->first_key : 1;
        }
    }
    return 0;
}

/* --- what came back --- */

enum verdict { APPLIED, AGAIN, ELSEWHERE, WITHOUT_REFUSED };

static int copy_range(const struct store *from, uint64_t at, uint64_t end, struct store *to,
                      struct err *err)
{
    uint8_t tmp[4096];
    while (at < end) {
        size_t want = end - at < sizeof(tmp) ? (size_t)(end - at) : sizeof(tmp);
        ssize_t n = store_read(from, at, tmp, want, err);
        if (n <= 0 || store_add(to, tmp, (size_t)n, err) < 0) return -1;
        at += (uint64_t)n;
    }
    return 0;
}

struct answer {
    enum verdict verdict;
    char why[RESP_ERROR_MAX];
    uint64_t left_out; /* queue errors reported; these commands are dropped before sending again */
};

/* The errors of an outcome, walked beside the commands they belong to. */
struct errors {
    const struct lane_outcome *o;
    bool multi_sent;
    size_t at;    /* of the one behind `line` */
    uint64_t n;   /* met so far, EXEC's own included */
    uint64_t cmd; /* index of the command that `line` is about */
    const char *line;
};

static void next_error(struct errors *x)
{
    struct lane_error e;
    while ((x->line = lane_outcome_next(x->o, &x->at, &e)) != NULL) {
        x->n++;
        bool about_exec = x->multi_sent && e.nested < 0 && e.reply >= x->o->main;
        if (about_exec) continue;
        x->cmd = e.nested >= 0 ? (uint64_t)e.nested : e.reply - (x->multi_sent ? 1 : 0);
        return;
    }
}

/* What command i was refused with, NULL: it was not. To be asked with growing i. */
static const char *error_of(struct errors *x, uint64_t i)
{
    const char *found = NULL;
    while (x->line && x->cmd <= i) {
        if (x->cmd == i && !found) found = x->line;
        next_error(x);
    }
    return found;
}

/* There were more errors than are kept: they are counted all the same. */
static int report_unkept(struct lane *l, int64_t db, uint64_t n, struct err *err)
{
    while (n--)
        if (refusals_report(l->refusals, db, span_of(NULL, 0), "a command of a large transaction",
                            "its words were not kept, there were too many errors before it",
                            err) < 0)
            return -1;
    return 0;
}

/* Report every command that was refused, by name. With `keep`, the others are copied there. */
static int report_refused(struct batch *b, struct lane *l, struct store *keep, uint64_t *ret_kept,
                          struct err *err)
{
    int64_t db = l->db;
    struct errors x = {.o = &l->outcome, .multi_sent = as_transaction(b)};
    struct walked w = {.to = MULTI_BYTES};
    next_error(&x);
    for (uint64_t i = 0; i < b->n; i++) {
        if (walk_next(&b->st, &w, err) < 0) return -1;
        const char *line = error_of(&x, i);
        bool select = strcasecmp(w.name, "SELECT") == 0;
        int64_t to_db = db;
        if (select && !num_get_i64(span_str(w.arg1), &to_db)) to_db = db;
        if (line) {
            if (select) /* what follows would run in another database: never go on */
                return err_set(err, ERR_TARGET, "target: database %s: %s", w.arg1, line);
            if (b->sealed && i >= b->seal_at) /* what is applied without it comes twice */
                return err_set(err, ERR_TARGET, "target: the checkpoint was refused: %s", line);
            if (refusals_report(l->refusals, db, span_of(w.key, w.key_n), w.name, line, err) < 0)
                return -1;
            continue;
        }
        db = to_db;
        if (!keep) continue;
        if (copy_range(&b->st, w.from, w.to, keep, err) < 0) return -1;
        (*ret_kept)++;
    }
    return keep ? 0 : report_unkept(l, db, l->outcome.n_errors - x.n, err);
}

/* Some commands were refused while queueing, so nothing was applied: report them, keep the rest. */
static int drop_refused(struct batch *b, struct lane *l, struct err *err)
{
    struct store keep;
    uint64_t kept = 0;
    store_init(&keep, BATCH_MEM_BYTES, b->st.max_bytes, b->st.dir);
    if (store_add(&keep, multi, MULTI_BYTES, err) < 0 ||
        report_refused(b, l, &keep, &kept, err) < 0) {
        store_release(&keep);
        return -1;
    }
    store_release(&b->st);
    b->st = keep;
    if (b->sealed) b->seal_at -= b->n - kept; /* all that is left out was before it */
    b->n = kept;
    b->together = true; /* the groups were told by the commands that were there */
    return 0;
}

/* A passing fault among the errors? Then its words. */
static const char *transient_line(const struct lane_outcome *o)
{
    struct lane_error e;
    const char *line;
    for (size_t at = 0; (line = lane_outcome_next(o, &at, &e)) != NULL;)
        if (e.nested < 0 && refusal_classify(line) == REFUSAL_TRANSIENT) return line;
    return NULL;
}

/* The words of a redirection among the errors; NULL none. Of a transaction the first one tells:
 * EXEC just says that there were errors. */
static const char *redirection(const struct lane_outcome *o)
{
    struct lane_error e;
    const char *line;
    for (size_t at = 0; (line = lane_outcome_next(o, &at, &e)) != NULL;)
        if (e.nested < 0 && refusal_is_redirect(line)) return line;
    return NULL;
}

static int judge_single(struct batch *b, struct lane *l, struct answer *a, struct err *err)
{
    const struct resp_reply *last = &l->outcome.last;
    a->verdict = APPLIED;
    if (last->type != '-') return 0;
    if (refusal_classify(last->line) == REFUSAL_TRANSIENT) {
        a->verdict = AGAIN;
        snprintf(a->why, sizeof(a->why), "%s", last->line);
        return 0;
    }
    return report_refused(b, l, NULL, NULL, err);
}

/* A server that was loading when MULTI came, and was not any more with the rest, say. Deadlines may
 * be set again; of all else nobody knows what the target has had. */
static int torn(const struct batch *b, struct lane *l, const char *line, struct err *err)
{
    if (b->checkpoint) l->lost = b->guarded ? LANE_LOST : LANE_TORN;
    return err_set(err, ERR_TARGET,
                   "target: MULTI was refused (%s), what came after it may have been applied one "
                   "by one",
                   line);
}

static int judge(struct batch *b, struct lane *l, struct answer *a, struct err *err)
{
    const struct lane_outcome *o = &l->outcome;
    const char *where = l->peers && o->last.type != '*' ? redirection(o) : NULL;
    if (where) {
        a->verdict = ELSEWHERE;
        snprintf(a->why, sizeof(a->why), "%s", where);
        return 0;
    }
    if (!as_transaction(b)) return judge_single(b, l, a, err);
    a->verdict = APPLIED;
    if (o->last.type == '*' && !o->last.is_null) {
        if (!o->n_errors || report_refused(b, l, NULL, NULL, err) == 0) return 0;
        l->refusals->missing++; /* the others ran, and the checkpoint is beyond it */
        return -1;
    }
    if (o->last.is_null && (b->sealed || b->guarded)) return fenced_off(l, err);
    struct lane_error first;
    size_t at = 0;
    const char *line = lane_outcome_next(o, &at, &first);
    const char *why = transient_line(o);
    /* Redis before 6.2 answers even MULTI with BUSY; so it may have all the others. */
    bool none_ran = why && o->n_errors > o->main;
    if (line && first.reply == 0 && first.nested < 0 && !none_ran) return torn(b, l, line, err);
    if (why) {
        a->verdict = AGAIN;
        snprintf(a->why, sizeof(a->why), "%s", why);
        return 0;
    }
    if (o->n_errors < 2)
        return err_set(err, ERR_TARGET, "target: transaction was not applied: %s",
                       o->last.type == '-' ? o->last.line : "EXEC gave nothing");
    a->verdict = WITHOUT_REFUSED;
    return drop_refused(b, l, err);
}

/* --- taking a batch apart --- */

static const struct batch_whole *mark_at(const struct batch *b, size_t i)
{
    return (const struct batch_whole *)(const void *)b->marks.p + i;
}

static size_t n_marks(const struct batch *b)
{
    return b->marks.n / sizeof(struct batch_whole);
}

/* Units: up to each mark; what is behind the last one is a unit too, or, when that is just the
 * checkpoint, belongs to the last. */
static size_t n_units(const struct batch *b)
{
    size_t n = n_marks(b);
    bool tail = n == 0 || (mark_at(b, n - 1)->n < b->n && !b->sealed);
    return n + tail;
}

static uint64_t unit_end(const struct batch *b, size_t i)
{
    return i + 1 < n_units(b) ? mark_at(b, i)->n : b->n;
}

/* Takes none of the memory that is wanting, and may be done twice: what follows the checkpoint and
 * is of this kind alone need not be told there. */
static bool only_removes(const char *name)
{
    static const char *const names[] = {"DEL",           "UNLINK", "HDEL",    "SREM",
                                        "ZREM",          "XDEL",   "FLUSHDB", "ZREMRANGEBYSCORE",
                                        "ZREMRANGEBYLEX"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcasecmp(name, names[i]) == 0) return true;
    return false;
}

/* The unit as a batch of its own, with the checkpoint of its end; from where w stands. *at_db: the
 * data's database there, and then behind it. */
static int send_sealed(struct batch *b, struct batch *unit, struct lane *l, size_t i,
                       struct walked *w, uint64_t from, int64_t *at_db, struct err *err)
{
    uint64_t end = unit_end(b, i), at = w->to;
    int64_t db = *at_db;
    if (batch_begin(unit, db, err) < 0) return -1;
    for (uint64_t k = from; k < end; k++) {
        if (walk_next(&b->st, w, err) < 0) return -1;
        if (strcasecmp(w->name, "SELECT") == 0 && !num_get_i64(span_str(w->arg1), &db))
            return err_set(err, ERR_INTERNAL, "a batch does not read back");
    }
    unit->n = end - from;
    unit->seal_at = b->seal_at - from; /* of the last one */
    unit->db = *at_db = db;
    unit->together = true;
    if (copy_range(&b->st, at, w->to, &unit->st, err) < 0) return -1;
    if (i + 1 == n_units(b)) {
        unit->sealed = b->sealed; /* is in it */
    } else {
        const struct batch_whole *m = mark_at(b, i);
        if (b->sealed && batch_seal(unit, m->offset, m->db, err) < 0) return -1;
    }
    if (batch_send(unit, l, err) < 0) return -1;
    return batch_finish(unit, l, err);
}

/* In MULTI nothing is taken from us while memory is wanting, not even DEL (Redis 7). By itself that
 * is. 1 sent, w behind it; 0 the unit is another one. */
static int send_removal(struct batch *b, struct batch *unit, struct lane *l, size_t i,
                        struct walked *w, uint64_t from, int64_t *at_db, struct err *err)
{
    struct walked next = *w;
    uint64_t end = i < n_marks(b) ? mark_at(b, i)->n : b->n;
    int64_t db = *at_db;
    if (end == from) return 0;
    for (uint64_t k = from; k < end; k++) {
        if (walk_next(&b->st, &next, err) < 0) return -1;
        bool select = strcasecmp(next.name, "SELECT") == 0;
        if (select ? !num_get_i64(span_str(next.arg1), &db) || k + 1 == end
                   : k + 1 < end || !only_removes(next.name))
            return 0;
    }
    /* With the checkpoint, nobody would know any more that we were here. */
    bool with_checkpoint = b->sealed && db == b->checkpoint->db;
    if (with_checkpoint && strcasecmp(next.name, "FLUSHDB") == 0) return 0;
    if (lane_select(l, db, err) < 0 || batch_begin(unit, db, err) < 0 ||
        copy_range(&b->st, next.from, next.to, &unit->st, err) < 0)
        return -1;
    unit->n = 1;
    unit->together = true;
    if (batch_send(unit, l, err) < 0 || batch_finish(unit, l, err) < 0) return -1;
    *w = next;
    *at_db = db;
    return 1;
}

static int send_units(struct batch *b, struct batch *unit, struct lane *l, struct err *err)
{
    struct walked w = {.to = MULTI_BYTES};
    uint64_t from = 0;
    size_t n = n_units(b);
    int64_t db = l->db;
    bool told = b->sealed;
    for (size_t i = 0; i < n; i++) {
        /* The checkpoint behind the unit before has left its own selected. */
        if (lane_select(l, db, err) < 0) return -1;
        int rc = b->sealed ? send_removal(b, unit, l, i, &w, from, &db, err) : 0;
        if (rc == 0) rc = send_sealed(b, unit, l, i, &w, from, &db, err);
        if (rc < 0) return -1;
        if (rc == 1 && i + 1 == n) told = false; /* left for the next one */
        from = unit_end(b, i);
    }
    b->sealed = told;
    return lane_select(l, b->db, err);
}

/* Is there anything to be gained? Of a single unit too, when it need not wait for the checkpoint.
 */
static bool has_units(const struct batch *b)
{
    return !b->together && n_units(b) > (b->sealed ? 0 : 1) && n_marks(b) > 0;
}

/* Just a checkpoint, which the target has no memory for: let nothing wait for it. */
static bool is_bare(const struct batch *b)
{
    return b->sealed && b->seal_at == 0;
}

static int take_apart(struct batch *b, struct lane *l, struct err *err)
{
    struct batch unit;
    log_info("target: out of memory; the %llu commands on their way are sent one by one, for some "
             "may free memory",
             (unsigned long long)b->n);
    batch_init(&unit, b->st.dir, b->st.max_bytes);
    unit.checkpoint = b->checkpoint;
    int rc = send_units(b, &unit, l, err);
    batch_release(&unit);
    if (rc == 0) b->in_flight = false;
    return rc;
}

int batch_finish_or(struct batch *b, struct lane *l, char *ret_where, struct err *err)
{
    for (unsigned tries = 1; b->in_flight; tries++) {
        struct answer a = {0};
        if (lane_call_wait(l, err) < 0) return -1;
        l->scan.keep_bulk = NULL;
        l->fence_down |= l->fence.n && b->sealed && !is_ours(b, l);
        if (judge(b, l, &a, err) < 0) return -1;
        if (a.verdict == ELSEWHERE && ret_where) {
            memcpy(ret_where, a.why, sizeof(a.why));
            b->in_flight = false;
            return 1;
        }
        if (a.verdict == ELSEWHERE) return err_set(err, ERR_INTERNAL, "nobody follows: %s", a.why);
        if (a.verdict == AGAIN) {
            counter_add(&l->counters->retries, b->data_cmds ? b->data_cmds : 1);
            if (refusal_is_oom(a.why) && is_bare(b)) {
                b->in_flight = b->sealed = false;
                return lane_select(l, b->db, err); /* the next one relies on it */
            }
            bool apart = tries >= OOM_TRIES && !l->peers && refusal_is_oom(a.why) && has_units(b);
            if ((apart ? take_apart(b, l, err) : lane_pause(l, a.why, err)) < 0) return -1;
            if (apart) break;
        }
        if (a.verdict == APPLIED || b->n == 0) {
            b->in_flight = false;
        } else if (batch_send(b, l, err) < 0) {
            return -1;
        }
    }
    lane_recovered(l);
    l->db = b->db;
    return 0;
}
