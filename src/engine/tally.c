// SPDX-License-Identifier: BSD-3-Clause
// Counting the commands of an AOF.
#include "engine/tally.h"

#include "base/num.h"
#include "wire/aof.h"
#include "wire/cmd.h"

#include <stdlib.h>

#define HELD_MAX   (4u << 20) /* larger commands are passed over piece by piece */
#define KEYS_MAX   1024       /* of one command that are looked at */
#define STOP_EVERY 1024       /* commands between two looks at `stop` */

struct pass {
    struct tally *t;
    const struct tally_config *cfg;
    struct reader *r;
    uint64_t whole; /* byte behind the last whole command or transaction */
    uint64_t n;
    int64_t annotated_ms;
};

/* --- the sums --- */

static void add(const struct tally *t, struct tally_cell *c, uint64_t bytes)
{
    c->sum.commands++;
    c->sum.bytes += bytes;
    if (!t->in_tx) return;
    if (c->tx != t->tx) c->open = (struct tally_sum){0};
    c->tx = t->tx;
    c->open.commands++;
    c->open.bytes += bytes;
}

static void take_back(const struct tally *t, struct tally_cell *c)
{
    if (c->tx != t->tx) return;
    c->sum.commands -= c->open.commands;
    c->sum.bytes -= c->open.bytes;
}

/* The transaction at hand has no end: it is not run by any server. */
static void take_back_all(struct tally *t)
{
    struct tally_cell *const single[] = {&t->all, &t->left_out, &t->nowhere};
    for (size_t i = 0; i < sizeof(single) / sizeof(single[0]); i++)
        take_back(t, single[i]);
    for (size_t i = 0; i < t->n_db; i++)
        take_back(t, &t->db[i].n);
    for (size_t i = 0; i < t->n_command; i++)
        take_back(t, &t->command[i].n);
    t->in_tx = false;
}

static int find_db(struct tally *t, uint64_t db, struct tally_cell **ret, struct err *err)
{
    for (size_t i = 0; i < t->n_db; i++) {
        if (t->db[i].db != db && i != TALLY_DBS - 1) continue;
        *ret = &t->db[i].n;
        return 0;
    }
    struct tally_db *grown = realloc(t->db, (t->n_db + 1) * sizeof(*grown));
    if (!grown) return err_set(err, ERR_NOMEM, "out of memory");
    t->db = grown;
    grown[t->n_db] = (struct tally_db){.db = db};
    *ret = &grown[t->n_db++].n;
    return 0;
}

static void name_command(char *to, struct span name)
{
    size_t n = name.n < TALLY_NAME_BYTES - 1 ? name.n : TALLY_NAME_BYTES - 1;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = name.p[i];
        to[i] = (char)(c >= 'a' && c <= 'z' ? c - 32 : c > 32 && c < 127 ? c : '?');
    }
    to[n] = 0;
}

static int add_command(struct tally *t, const char *name, size_t *ret, struct err *err)
{
    struct tally_command *grown = realloc(t->command, (t->n_command + 1) * sizeof(*grown));
    if (!grown) return err_set(err, ERR_NOMEM, "out of memory");
    t->command = grown;
    grown[t->n_command] = (struct tally_command){0};
    memcpy(grown[t->n_command].name, name, strlen(name) + 1);
    *ret = t->n_command++;
    return 0;
}

/* A module's command, or one newer than this program. */
static int find_unknown(struct tally *t, struct span name, size_t *ret, struct err *err)
{
    char words[TALLY_NAME_BYTES];
    name_command(words, name);
    for (int others = 0; others < 2; others++) {
        for (size_t i = 0; i < t->n_command; i++) {
            if (strcmp(t->command[i].name, words) != 0) continue;
            *ret = i;
            return 0;
        }
        if (t->n_unknown < TALLY_UNKNOWN) break;
        memcpy(words, "(others)", sizeof("(others)"));
    }
    t->n_unknown++;
    return add_command(t, words, ret, err);
}

static int find_command(struct tally *t, const struct cmd_info *info, struct span name,
                        struct tally_cell **ret, struct err *err)
{
    size_t i = 0;
    uint16_t *slot = info ? &t->slot[info - cmd_at(0)] : NULL;
    if (slot && *slot)
        i = *slot - 1u;
    else if ((slot ? add_command(t, info->name, &i, err) : find_unknown(t, name, &i, err)) < 0)
        return -1;
    if (slot) *slot = (uint16_t)(i + 1);
    *ret = &t->command[i].n;
    return 0;
}

/* --- one command --- */

static bool concerns_no_database(const struct cmd_info *info, struct span name)
{
    if (!info) return false;
    switch ((enum cmd_rule)info->rule) {
    case CMD_RULE_FLUSHALL:
    case CMD_RULE_SWAPDB:
    case CMD_RULE_FUNCTION:
    case CMD_RULE_PUBLISH: return true;
    case CMD_RULE_SCRIPT: return span_is(name, "SCRIPT");
    default: return false;
    }
}

/* One whose keys cannot be told may reach any. Of one that was not held all arguments are not at
 * hand. */
static bool names_selected_key(const struct pass *p, const struct cmd_info *info,
                               const struct resp_cmd *cmd)
{
    size_t at[KEYS_MAX];
    if (!p->cfg->keys || key_select_all(p->cfg->keys) || !info) return true;
    if (!cmd->raw.p && info->first_key != info->last_key) return true;
    int n = cmd_keys(info, cmd->argc, cmd->argv, KEYS_MAX, at);
    if (n <= 0 || n > KEYS_MAX) return true;
    for (int i = 0; i < n; i++)
        if (at[i] >= cmd->argc || key_selected(p->cfg->keys, cmd->argv[at[i]])) return true;
    return false;
}

static bool is_selected(const struct pass *p, const struct cmd_info *info,
                        const struct resp_cmd *cmd)
{
    if (concerns_no_database(info, cmd->argv[0])) return true;
    if (p->cfg->select && db_select_target(p->cfg->select, p->t->at_db) < 0) return false;
    return names_selected_key(p, info, cmd);
}

static int count(struct pass *p, const struct cmd_info *info, const struct resp_cmd *cmd,
                 uint64_t bytes, struct err *err)
{
    struct tally *t = p->t;
    struct tally_cell *in_db = &t->nowhere, *by_name;
    if (!is_selected(p, info, cmd)) {
        add(t, &t->left_out, bytes);
        return 0;
    }
    if (!concerns_no_database(info, cmd->argv[0]) && find_db(t, t->at_db, &in_db, err) < 0)
        return -1;
    if (find_command(t, info, cmd->argv[0], &by_name, err) < 0) return -1;
    add(t, in_db, bytes);
    add(t, by_name, bytes);
    add(t, &t->all, bytes);
    return 0;
}

static int do_command(struct pass *p, const struct resp_cmd *cmd, uint64_t bytes, struct err *err)
{
    struct tally *t = p->t;
    const struct cmd_info *info = cmd_find(cmd->argv[0]);
    enum cmd_rule rule = info ? (enum cmd_rule)info->rule : CMD_RULE_PASS;
    if (rule == CMD_RULE_SELECT) {
        if (cmd->argc == 2 && num_get_u64(cmd->argv[1], &t->at_db)) return 0;
        return err_set(err, ERR_FORMAT, "a SELECT without a database at byte %llu",
                       (unsigned long long)(reader_pos(p->r) - bytes));
    }
    if (rule == CMD_RULE_MULTI) {
        t->in_tx = true;
        t->tx++;
        return 0;
    }
    if (rule == CMD_RULE_EXEC) {
        t->transactions += t->in_tx;
        t->in_tx = false;
        return 0;
    }
    return count(p, info, cmd, bytes, err);
}

/* --- one file --- */

/* What is larger than should be held; the reader stands at its start, cmd has its first arguments,
 * which hold nothing of what is passed over. */
static int pass_over(struct reader *r, struct err *err)
{
    uint64_t argc, n;
    if (resp_head_next(r, '*', INT32_MAX, &argc, err) < 0) return -1;
    for (uint64_t i = 0; i < argc; i++) {
        reader_release(r);
        if (resp_head_next(r, '$', RESP_BULK_MAX, &n, err) < 0) return -1;
        if (reader_skip(r, n, true, err) < 0 || reader_need(r, 2, err) < 0) return -1;
        if (r->p[0] != '\r' || r->p[1] != '\n')
            return err_set(err, ERR_PROTO, "no line end after an argument at byte %llu",
                           (unsigned long long)reader_pos(r));
        r->p += 2;
    }
    return 0;
}

/* Its arguments are copied, as far as they may tell keys: they go while it is passed over. */
static int do_giant(struct pass *p, const struct resp_cmd *cmd, uint64_t start, struct err *err)
{
    struct buf kept;
    struct span argv[KEYS_MAX];
    struct resp_cmd few = {.argv = argv};
    size_t need = 0;
    if (cmd->argc == 0)
        return err_set(err, ERR_FORMAT, "no command at byte %llu: its name is longer than %u bytes",
                       (unsigned long long)start, HELD_MAX);
    while (few.argc < cmd->argc && few.argc < KEYS_MAX)
        need += cmd->argv[few.argc++].n;
    buf_init(&kept, need + 1);
    int rc = buf_reserve(&kept, need + 1, err);
    for (size_t i = 0; i < few.argc && rc == 0; i++) {
        argv[i] = span_of(kept.p + kept.n, cmd->argv[i].n);
        rc = buf_add(&kept, cmd->argv[i].p, cmd->argv[i].n, err);
    }
    if (rc == 0) rc = pass_over(p->r, err);
    if (rc == 0) rc = do_command(p, &few, reader_pos(p->r) - start, err);
    buf_release(&kept);
    return rc;
}

static void note_time(struct pass *p)
{
    struct tally *t = p->t;
    if (!p->annotated_ms) return;
    if (!t->first_ms || p->annotated_ms < t->first_ms) t->first_ms = p->annotated_ms;
    if (p->annotated_ms > t->last_ms) t->last_ms = p->annotated_ms;
}

/* 0: one counted, 1: the file ends here, -1 */
static int next(struct pass *p, struct err *err)
{
    struct resp_cmd cmd;
    struct reader *r = p->r;
    if (p->cfg->stop && p->n++ % STOP_EVERY == 0 && *p->cfg->stop)
        return err_set(err, ERR_STOPPED, "stopped");
    int rc = aof_to_command(r, &p->annotated_ms, err);
    if (rc != 0) return rc;
    uint64_t start = reader_pos(r);
    rc = resp_cmd_next(&p->t->cmds, r, HELD_MAX, &cmd, err);
    if (rc == 0)
        rc = do_command(p, &cmd, reader_pos(r) - start, err);
    else if (rc == 1)
        rc = do_giant(p, &cmd, start, err);
    if (rc < 0) return -1;
    reader_release(r);
    note_time(p);
    if (!p->t->in_tx) p->whole = reader_pos(r);
    return 0;
}

int tally_run(struct tally *t, const struct tally_config *cfg, struct reader *r,
              struct tally_cut *ret, struct err *err)
{
    uint64_t start = reader_pos(r);
    struct pass p = {.t = t, .cfg = cfg, .r = r, .whole = start};
    int rc;
    t->at_db = 0;
    while ((rc = next(&p, err)) == 0)
        continue;
    bool cut = t->in_tx || (rc < 0 && err->code == ERR_END);
    if (t->in_tx) take_back_all(t);
    t->bytes += (rc < 0 ? p.whole : reader_pos(r)) - start;
    if (rc < 0 && err->code != ERR_END) return -1;
    *ret = (struct tally_cut){cut, p.whole};
    return 0;
}

/* --- life --- */

int tally_init(struct tally *t, struct err *err)
{
    size_t n = 0;
    while (cmd_at(n))
        n++;
    *t = (struct tally){.slot = calloc(n, sizeof(*t->slot))};
    resp_cmds_init(&t->cmds);
    return t->slot ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

void tally_release(struct tally *t)
{
    resp_cmds_release(&t->cmds);
    free(t->slot);
    free(t->db);
    free(t->command);
    *t = (struct tally){0};
}

static int by_number(const void *a, const void *b)
{
    const struct tally_db *x = a, *y = b;
    return (x->db > y->db) - (x->db < y->db);
}

static int by_commands(const void *a, const void *b)
{
    const struct tally_command *x = a, *y = b;
    uint64_t m = x->n.sum.commands, n = y->n.sum.commands;
    return m != n ? (m < n) - (m > n) : strcmp(x->name, y->name);
}

void tally_sort(struct tally *t)
{
    if (t->n_db) qsort(t->db, t->n_db, sizeof(*t->db), by_number);
    if (t->n_command) qsort(t->command, t->n_command, sizeof(*t->command), by_commands);
}
