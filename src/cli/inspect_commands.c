// SPDX-License-Identifier: BSD-3-Clause
// The part of a report that tells of an AOF's commands: counted, not run.
#include "base/num.h"
#include "cli/inspect_report.h"

#include <stdio.h>
#include <time.h>

#define SHOWN    32
#define COLUMNS  80
#define TOP_ROWS 20 /* of the table for people; the JSON has all */

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* "2026-11-22 16:39:53 UTC" */
static void put_time(char *out, size_t size, int64_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm) || !strftime(out, size, "%Y-%m-%d %H:%M:%S UTC", &tm))
        snprintf(out, size, "%lld", (long long)(ms / 1000));
}

static bool has_commands(const struct inspect_source *s)
{
    return s->tally.bytes > 0 || s->cut.cut;
}

void inspect_report_commands_head(const struct inspect_source *s, struct text *t)
{
    char words[600], count[SHOWN], size[SHOWN];
    if (!has_commands(s)) return;
    snprintf(words, sizeof(words), "%s in %s%s, COUNTED, NOT RUN: %s",
             num_human_count(count, sizeof(count), s->tally.all.sum.commands),
             num_human_bytes(size, sizeof(size), s->tally.bytes),
             s->has_snapshot ? " behind the snapshot" : "",
             s->has_snapshot ? "the keys told here are those of the snapshot alone"
                             : "which keys they make is not told here");
    text_printf(t, "%-12s", "commands");
    text_wrap(t, words, 12, COLUMNS);
    if (!s->cut.cut) return;
    snprintf(words, sizeof(words),
             "the command or transaction at byte %llu of the last file is not whole; it is left "
             "out, as a server would",
             (unsigned long long)s->cut.at);
    text_printf(t, "%-12s", "CUT OFF");
    text_wrap(t, words, 12, COLUMNS);
}

/* --- the tables --- */

static void put_row(struct text *t, const char *name, const struct tally_sum *n, uint64_t whole)
{
    char count[SHOWN], size[SHOWN];
    text_printf(t, "%-38.37s%16s%14s%9.1f %%\n", name,
                num_human_count(count, sizeof(count), n->commands),
                num_human_bytes(size, sizeof(size), n->bytes), percent(n->commands, whole));
}

static void put_by_name(const struct tally *y, struct text *t)
{
    uint64_t whole = y->all.sum.commands;
    struct tally_sum rest = {0};
    text_printf(t, "\n%-38s%16s%14s%11s\n", "command", "commands", "bytes", "share");
    for (size_t i = 0; i < y->n_command; i++) {
        const struct tally_sum *n = &y->command[i].n.sum;
        if (i < TOP_ROWS && n->commands) put_row(t, y->command[i].name, n, whole);
        if (i < TOP_ROWS) continue;
        rest.commands += n->commands;
        rest.bytes += n->bytes;
    }
    if (rest.commands) put_row(t, "others", &rest, whole);
}

static void put_by_db(const struct tally *y, struct text *t)
{
    uint64_t whole = y->all.sum.commands;
    text_printf(t, "\n%-38s%16s%14s%11s\n", "database", "commands", "bytes", "share");
    for (size_t i = 0; i < y->n_db; i++) {
        char name[SHOWN];
        bool others = y->n_db == TALLY_DBS && i == TALLY_DBS - 1;
        if (!y->db[i].n.sum.commands) continue;
        snprintf(name, sizeof(name), "%llu%s", (unsigned long long)y->db[i].db,
                 others ? " etc." : "");
        put_row(t, name, &y->db[i].n.sum, whole);
    }
    if (y->nowhere.sum.commands) put_row(t, "none or all", &y->nowhere.sum, whole);
}

static void put_times(const struct tally *y, struct text *t)
{
    char first[64], last[64], words[300];
    if (y->first_ms == 0) {
        snprintf(words, sizeof(words), "not told: the AOF has no annotations");
    } else {
        put_time(first, sizeof(first), y->first_ms);
        put_time(last, sizeof(last), y->last_ms);
        snprintf(words, sizeof(words), "%s to %s, by annotations", first, last);
    }
    text_printf(t, "%-12s", "written");
    text_wrap(t, words, 12, COLUMNS);
}

void inspect_report_commands_table(const struct inspect_source *s, struct text *t)
{
    const struct tally *y = &s->tally;
    char count[SHOWN];
    if (!has_commands(s)) return;
    if (y->all.sum.commands) {
        put_by_db(y, t);
        put_by_name(y, t);
    }
    text_add(t, "\n");
    put_times(y, t);
    if (y->transactions)
        text_printf(t, "%-12s%s of MULTI ... EXEC\n", "groups",
                    num_human_count(count, sizeof(count), y->transactions));
    if (y->left_out.sum.commands)
        text_printf(t, "%-12s%s commands that were not asked for\n", "left out",
                    num_human_count(count, sizeof(count), y->left_out.sum.commands));
}

/* --- JSON --- */

static void json_sum(struct text *t, const struct tally_sum *n)
{
    text_json_u64(t, "commands", n->commands);
    text_json_u64(t, "bytes", n->bytes);
}

static void json_known(struct text *t, const char *name, bool known, int64_t v)
{
    if (known)
        text_json_i64(t, name, v);
    else
        text_json_text(t, name, NULL);
}

static void json_lists(const struct tally *y, struct text *t)
{
    text_json_name(t, "databases");
    text_json_open(t, '[');
    for (size_t i = 0; i < y->n_db; i++) {
        if (!y->db[i].n.sum.commands) continue;
        text_json_open(t, '{');
        text_json_u64(t, "db", y->db[i].db);
        json_sum(t, &y->db[i].n.sum);
        text_add(t, "}");
    }
    text_add(t, "]");
    text_json_name(t, "names");
    text_json_open(t, '[');
    for (size_t i = 0; i < y->n_command; i++) {
        if (!y->command[i].n.sum.commands) continue;
        text_json_open(t, '{');
        text_json_text(t, "name", y->command[i].name);
        json_sum(t, &y->command[i].n.sum);
        text_add(t, "}");
    }
    text_add(t, "]");
}

void inspect_report_commands_json(const struct inspect_source *s, struct text *t)
{
    const struct tally *y = &s->tally;
    text_json_name(t, "commands_follow");
    text_add(t, has_commands(s) ? "true" : "false");
    text_json_name(t, "commands");
    if (!has_commands(s)) {
        text_add(t, "null");
        return;
    }
    text_json_open(t, '{');
    json_sum(t, &y->all.sum);
    text_json_u64(t, "file_bytes", y->bytes);
    text_json_u64(t, "transactions", y->transactions);
    text_json_u64(t, "left_out", y->left_out.sum.commands);
    text_json_u64(t, "without_database", y->nowhere.sum.commands);
    json_known(t, "first_ms", y->first_ms, y->first_ms);
    json_known(t, "last_ms", y->first_ms, y->last_ms);
    json_known(t, "cut_at", s->cut.cut, (int64_t)s->cut.at);
    json_lists(y, t);
    text_add(t, "}");
}
