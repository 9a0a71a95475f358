// SPDX-License-Identifier: BSD-3-Clause
// The report of an inspection.
#include "cli/inspect_report.h"

#include "base/num.h"
#include "wire/rdb/transcode.h"

#include <stdio.h>

#define SHOWN   32
#define COLUMNS 80

static const char *const expiry_words[INSPECT_EXPIRIES] = {
    [INSPECT_NONE] = "none",   [INSPECT_PAST] = "past",     [INSPECT_HOUR] = "< 1 hour",
    [INSPECT_DAY] = "< 1 day", [INSPECT_WEEK] = "< 7 days", [INSPECT_MONTH] = "< 30 days",
    [INSPECT_LATER] = "later",
};
static const char *const expiry_names[INSPECT_EXPIRIES] = {
    [INSPECT_NONE] = "none",    [INSPECT_PAST] = "past",     [INSPECT_HOUR] = "under_1h",
    [INSPECT_DAY] = "under_1d", [INSPECT_WEEK] = "under_7d", [INSPECT_MONTH] = "under_30d",
    [INSPECT_LATER] = "later",
};
static const char *const loss_words[TRANSCODE_LOSS_BITS] = {
    "expiries of fields",
    "counters of the stream",
    "when consumers were last active",
    "idempotent producers",
    "that pending entries have no owner",
};
static const char *const loss_names[TRANSCODE_LOSS_BITS] = {
    "field-expiry", "counters", "active", "idempotence", "nacked",
};

/* --- keys --- */

/* Of the character at p; 0: it is none, or not to be printed. */
static size_t plain_length(const uint8_t *p, size_t left)
{
    if (p[0] < 0x80) return p[0] >= 0x20 && p[0] != 0x7f;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    /* Too long a form, half a surrogate, beyond the last, or a control character (U+0080 to 9F). */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f) ||
        (p[0] == 0xc2 && p[1] < 0xa0))
        return 0;
    return n;
}

bool inspect_report_is_plain(const uint8_t *p, size_t n)
{
    for (size_t i = 0, step; i < n; i += step)
        if ((step = plain_length(p + i, n - i)) == 0) return false;
    return true;
}

static size_t kept(const struct inspect_key_name *k)
{
    return k->n < sizeof(k->p) ? k->n : sizeof(k->p);
}

#define KEY_SHOWN (COLUMNS - 41)

/* Quoted, at most KEY_SHOWN wide. */
static char *shown_key(const struct inspect_key_name *k, char *out)
{
    char quoted[512];
    num_quote(quoted, sizeof(quoted), span_of(k->p, kept(k)));
    bool fits = strlen(quoted) <= KEY_SHOWN;
    snprintf(out, KEY_SHOWN + 1, "%.*s%s", fits ? KEY_SHOWN : KEY_SHOWN - 3, quoted,
             fits ? "" : "...");
    return out;
}

/* --- the table --- */

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void put_sum(struct text *t, const char *db, const char *type, const struct inspect_sum *s,
                    uint64_t whole)
{
    char keys[SHOWN], bytes[SHOWN];
    text_printf(t, "%-12s%-26s%16s%14s%9.1f %%\n", db, type,
                num_human_count(keys, sizeof(keys), s->keys),
                num_human_bytes(bytes, sizeof(bytes), s->bytes), percent(s->bytes, whole));
}

static void name_db(const struct inspect *in, size_t i, char *out, size_t size)
{
    bool others = in->n_db == INSPECT_DBS && i == INSPECT_DBS - 1;
    snprintf(out, size, "%llu%s", (unsigned long long)in->db[i].db, others ? " etc." : "");
}

static void put_databases(const struct inspect *in, struct text *t)
{
    text_printf(t, "%-12s%-26s%16s%14s%11s\n", "database", "type", "keys", "bytes", "share");
    for (size_t i = 0; i < in->n_db; i++) {
        char name[SHOWN];
        bool first = true;
        name_db(in, i, name, sizeof(name));
        for (int k = 0; k < INSPECT_KINDS; k++) {
            if (!in->db[i].kind[k].keys) continue;
            put_sum(t, first ? name : "", rdb_kind_name((enum rdb_kind)k), &in->db[i].kind[k],
                    in->all.bytes);
            first = false;
        }
    }
    put_sum(t, "total", "", &in->all, in->all.bytes);
}

static void put_types(const struct inspect *in, struct text *t)
{
    text_printf(t, "\n%-12s%-26s%16s%14s%11s\n", "number", "encoding", "keys", "bytes", "share");
    for (size_t i = 0; i < INSPECT_TYPES; i++) {
        char number[SHOWN];
        enum rdb_type type = inspect_type_at(i);
        if (!in->type[i].sum.keys) continue;
        snprintf(number, sizeof(number), "%u", (unsigned)rdb_type_byte(type));
        put_sum(t, number, inspect_type_name(type), &in->type[i].sum, in->all.bytes);
    }
}

static void put_expiries(const struct inspect *in, struct text *t)
{
    text_printf(t, "\n%-12s%42s%25s\n", "expires", "keys", "share");
    for (int i = 0; i < INSPECT_EXPIRIES; i++) {
        char keys[SHOWN];
        if (!in->expiry[i]) continue;
        text_printf(t, "%-12s%42s%23.1f %%\n", expiry_words[i],
                    num_human_count(keys, sizeof(keys), in->expiry[i]),
                    percent(in->expiry[i], in->all.keys));
    }
}

static void put_biggest(const struct inspect *in, struct text *t)
{
    if (!in->n_top) return;
    text_printf(t, "\n%-12s%14s  %-5s%-8s%s\n", "biggest", "elements", "db", "type", "key");
    for (size_t i = 0; i < in->n_top; i++) {
        const struct inspect_top *k = &in->top[i];
        char bytes[SHOWN], elements[SHOWN] = "-", key[KEY_SHOWN + 1];
        if (k->elements != INSPECT_UNKNOWN)
            num_human_count(elements, sizeof(elements), k->elements);
        text_printf(t, "%-12s%14s  %-5llu%-8s%s\n", num_human_bytes(bytes, sizeof(bytes), k->bytes),
                    elements, (unsigned long long)k->db, rdb_kind_name(rdb_kind_of(k->type)),
                    shown_key(&k->key, key));
    }
}

static void put_names(struct text *t, const struct inspect_note *list, size_t n, uint64_t all)
{
    char words[INSPECT_NOTES * 68] = "";
    size_t used = 0;
    for (size_t i = 0; i < n; i++)
        used += (size_t)snprintf(words + used, sizeof(words) - used, "%s%s", i ? ", " : "",
                                 list[i].name);
    if (all > n) snprintf(words + used, sizeof(words) - used, ", ...");
    text_wrap(t, words, 12, COLUMNS);
}

static void put_rest(const struct inspect *in, struct text *t)
{
    char count[SHOWN];
    if (in->functions || in->scripts || in->module_aux || in->with_meta || in->unselected)
        text_add(t, "\n");
    if (in->functions) {
        text_printf(t, "%-12s", "functions");
        put_names(t, in->library, in->n_library, in->functions);
    }
    if (in->scripts)
        text_printf(t, "%-12s%s cached\n", "scripts",
                    num_human_count(count, sizeof(count), in->scripts));
    if (in->module_aux) {
        text_printf(t, "%-12s", "modules");
        put_names(t, in->module, in->n_module, in->module_aux);
    }
    if (in->with_meta)
        text_printf(t, "%-12s%s keys have metadata of modules\n", "metadata",
                    num_human_count(count, sizeof(count), in->with_meta));
    if (in->unselected)
        text_printf(t, "%-12s%s keys that were not asked for\n", "left out",
                    num_human_count(count, sizeof(count), in->unselected));
}

/* --- for another server --- */

static void loss_list(unsigned loss, char *out, size_t size)
{
    size_t used = 0;
    *out = 0;
    for (unsigned i = 0; i < TRANSCODE_LOSS_BITS; i++)
        if (loss >> i & 1 && used < size)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "",
                                     loss_words[i]);
}

static void put_fate(struct text *t, const struct inspect_type *type, enum rdb_type id,
                     const struct inspect_fate *f)
{
    char words[1200], losses[300], key[KEY_SHOWN + 1], count[SHOWN];
    const char *one = type->sum.keys == 1 ? "" : "s";
    num_human_count(count, sizeof(count), type->sum.keys);
    shown_key(&type->first, key);
    loss_list(f->loss, losses, sizeof(losses));
    if (f->kind == INSPECT_REFUSED)
        snprintf(words, sizeof(words), "%s: %s key%s, CANNOT BE TAKEN; the first is db %llu %s",
                 inspect_type_name(id), count, one, (unsigned long long)type->first_db, key);
    else if (f->kind == INSPECT_LESS)
        snprintf(words, sizeof(words),
                 "%s: %s key%s, as %s, which MAY LOSE %s; the first is db %llu %s",
                 inspect_type_name(id), count, one, inspect_type_name(f->as), losses,
                 (unsigned long long)type->first_db, key);
    else
        snprintf(words, sizeof(words), "%s: %s key%s, as %s, with nothing lost",
                 inspect_type_name(id), count, one, inspect_type_name(f->as));
    text_add(t, "  ");
    text_wrap(t, words, 4, COLUMNS);
}

static void put_supposed(const struct inspect_report *r, struct text *t)
{
    const struct inspect *in = r->in;
    char name[96];
    bool any = false;
    if (!r->supposed) return;
    text_printf(t, "\nfor %s\n", facts_name(name, sizeof(name), r->supposed));
    for (size_t i = 0; i < INSPECT_TYPES; i++) {
        enum rdb_type type = inspect_type_at(i);
        struct inspect_fate f = inspect_fate(r->supposed, type);
        if (!in->type[i].sum.keys || f.kind == INSPECT_AS_IS) continue;
        put_fate(t, &in->type[i], type, &f);
        any = true;
    }
    if (in->functions && !facts_has(r->supposed, FACTS_FUNCTIONS)) {
        text_add(t, "  functions: CANNOT BE TAKEN\n");
        any = true;
    }
    if (in->type[RDB_MODULE_2].sum.keys && facts_takes_type(r->supposed, RDB_MODULE_2)) {
        text_add(t, "  module-2: if it has the same modules\n");
        any = true;
    }
    if (r->source->has_snapshot)
        text_add(t, any ? "  all else as it is\n" : "  everything as it is\n");
    if (r->source->tally.all.sum.commands) text_add(t, "  what the commands make is not told\n");
}

static const char *aux_value(const struct inspect *in, const char *name)
{
    for (size_t i = 0; i < in->n_aux; i++)
        if (strcmp(in->aux[i].name, name) == 0) return in->aux[i].value;
    return NULL;
}

static void put_snapshot(const struct inspect *in, struct text *t)
{
    char words[400], size[SHOWN], used[SHOWN], count[SHOWN];
    const char *by = aux_value(in, in->valkey ? "valkey-ver" : "redis-ver");
    snprintf(words, sizeof(words), "RDB version %u%s%s%s", in->version,
             in->valkey ? " (Valkey)" : "", by ? ", written by version " : "", by ? by : "");
    text_printf(t, "%-12s", "snapshot");
    text_wrap(t, words, 12, COLUMNS);
    snprintf(words, sizeof(words), "%s, %s with an expiry, in a snapshot of %s",
             num_human_count(count, sizeof(count), in->all.keys),
             num_human_count(used, sizeof(used), in->expires),
             num_human_bytes(size, sizeof(size), in->bytes));
    text_printf(t, "%-12s", "keys");
    text_wrap(t, words, 12, COLUMNS);
}

static void put_source(const struct inspect_report *r, struct text *t)
{
    char words[400], used[SHOWN], files[SHOWN + 16] = "";
    const struct inspect_source *s = r->source;
    if (s->files > 1) snprintf(files, sizeof(files), ", %zu files", s->files);
    snprintf(words, sizeof(words), "%s%s%s%s", s->name, s->live ? ", " : "", s->shown, files);
    text_printf(t, "%-12s", "source");
    text_wrap(t, text_make_plain(words), 12, COLUMNS);
    if (s->live)
        text_printf(t, "%-12s%s, %s of memory used\n", "server",
                    s->facts.role == FACTS_REPLICA ? "a replica" : "a primary",
                    num_human_bytes(used, sizeof(used), s->facts.used_memory));
    if (s->has_snapshot)
        put_snapshot(r->in, t);
    else
        text_printf(t, "%-12s%s\n", "snapshot", "none: an AOF of commands alone");
    inspect_report_commands_head(s, t);
}

void inspect_report_table(const struct inspect_report *r, struct text *t)
{
    put_source(r, t);
    if (r->source->has_snapshot) {
        text_add(t, "\n");
        put_databases(r->in, t);
        put_types(r->in, t);
        put_expiries(r->in, t);
        put_biggest(r->in, t);
        put_rest(r->in, t);
    }
    inspect_report_commands_table(r->source, t);
    put_supposed(r, t);
}

/* --- JSON --- */

/* "key" of plain text, else "key_hex"; not more of it than was kept, its length always. */
static void json_key(struct text *t, const struct inspect_key_name *k)
{
    char plain[INSPECT_KEY_BYTES + 1], hex[2 * INSPECT_KEY_BYTES + 1];
    size_t n = kept(k);
    bool whole = k->n <= sizeof(k->p);
    if (whole && inspect_report_is_plain(k->p, n)) {
        memcpy(plain, k->p, n);
        plain[n] = 0;
        text_json_text(t, "key", plain);
        return;
    }
    for (size_t i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", k->p[i]);
    hex[2 * n] = 0;
    text_json_text(t, whole ? "key_hex" : "key_hex_start", hex);
    if (!whole) text_json_u64(t, "key_bytes", k->n);
}

static void json_sum(struct text *t, const struct inspect_sum *s)
{
    text_json_u64(t, "keys", s->keys);
    text_json_u64(t, "bytes", s->bytes);
}

static void json_databases(const struct inspect *in, struct text *t)
{
    text_json_name(t, "databases");
    text_json_open(t, '[');
    for (size_t i = 0; i < in->n_db; i++) {
        text_json_open(t, '{');
        text_json_u64(t, "db", in->db[i].db);
        json_sum(t, &in->db[i].all);
        text_json_u64(t, "expires", in->db[i].expires);
        text_json_name(t, "types");
        text_json_open(t, '{');
        for (int k = 0; k < INSPECT_KINDS; k++) {
            if (!in->db[i].kind[k].keys) continue;
            text_json_name(t, rdb_kind_name((enum rdb_kind)k));
            text_json_open(t, '{');
            json_sum(t, &in->db[i].kind[k]);
            text_add(t, "}");
        }
        text_add(t, "}}");
    }
    text_add(t, "]");
}

static void json_fate(struct text *t, const struct server_facts *target, enum rdb_type type)
{
    static const char *const names[] = {"as-is", "turned", "may-lose", "refused"};
    struct inspect_fate f = inspect_fate(target, type);
    text_json_text(t, "for", names[f.kind]);
    if (f.kind == INSPECT_TURNED || f.kind == INSPECT_LESS)
        text_json_text(t, "as", inspect_type_name(f.as));
    if (f.kind != INSPECT_LESS) return;
    text_json_name(t, "loses");
    text_json_open(t, '[');
    for (unsigned i = 0, n = 0; i < TRANSCODE_LOSS_BITS; i++) {
        if (!(f.loss >> i & 1)) continue;
        if (n++) text_add(t, ",");
        text_json_string(t, loss_names[i]);
    }
    text_add(t, "]");
}

static void json_types(const struct inspect_report *r, struct text *t)
{
    text_json_name(t, "encodings");
    text_json_open(t, '[');
    for (size_t i = 0; i < INSPECT_TYPES; i++) {
        const struct inspect_type *y = &r->in->type[i];
        enum rdb_type type = inspect_type_at(i);
        if (!y->sum.keys) continue;
        text_json_open(t, '{');
        text_json_u64(t, "number", rdb_type_byte(type));
        text_json_text(t, "encoding", inspect_type_name(type));
        json_sum(t, &y->sum);
        text_json_u64(t, "first_db", y->first_db);
        json_key(t, &y->first);
        if (r->supposed) json_fate(t, r->supposed, type);
        text_add(t, "}");
    }
    text_add(t, "]");
}

static void json_expires(struct text *t, int64_t at)
{
    if (at == -1)
        text_json_text(t, "expire_ms", NULL);
    else
        text_json_i64(t, "expire_ms", at);
}

static void json_biggest(const struct inspect *in, struct text *t)
{
    text_json_name(t, "biggest");
    text_json_open(t, '[');
    for (size_t i = 0; i < in->n_top; i++) {
        const struct inspect_top *k = &in->top[i];
        text_json_open(t, '{');
        text_json_u64(t, "db", k->db);
        json_key(t, &k->key);
        text_json_text(t, "type", rdb_kind_name(rdb_kind_of(k->type)));
        text_json_text(t, "encoding", inspect_type_name(k->type));
        text_json_u64(t, "bytes", k->bytes);
        if (k->elements == INSPECT_UNKNOWN)
            text_json_text(t, "elements", NULL);
        else
            text_json_u64(t, "elements", k->elements);
        json_expires(t, k->expire_ms);
        text_add(t, "}");
    }
    text_add(t, "]");
}

static void json_notes(struct text *t, const char *name, const struct inspect_note *list, size_t n)
{
    text_json_name(t, name);
    text_json_open(t, '[');
    for (size_t i = 0; i < n; i++) {
        if (i) text_add(t, ",");
        text_json_string(t, list[i].name);
    }
    text_add(t, "]");
}

static void json_source(const struct inspect_report *r, struct text *t)
{
    const struct inspect *in = r->in;
    const struct inspect_source *s = r->source;
    text_json_name(t, "source");
    text_json_open(t, '{');
    text_json_text(t, s->live ? "uri" : "file", s->shown);
    if (!s->live) text_json_u64(t, "files", s->files);
    if (s->live) {
        text_json_text(t, "server", s->name);
        text_json_text(t, "role", s->facts.role == FACTS_REPLICA ? "replica" : "primary");
        text_json_u64(t, "used_memory", s->facts.used_memory);
        text_json_u64(t, "maxmemory", s->facts.maxmemory);
    }
    text_add(t, "}");
    if (s->has_snapshot)
        text_json_u64(t, "rdb_version", in->version);
    else
        text_json_text(t, "rdb_version", NULL);
    text_json_text(t, "rdb_family", !s->has_snapshot ? NULL : in->valkey ? "valkey" : "redis");
    text_json_u64(t, "rdb_bytes", in->bytes);
    inspect_report_commands_json(s, t);
    text_json_name(t, "aux");
    text_json_open(t, '{');
    for (size_t i = 0; i < in->n_aux; i++)
        text_json_text(t, in->aux[i].name, in->aux[i].value);
    text_add(t, "}");
}

void inspect_report_json(const struct inspect_report *r, struct text *t)
{
    const struct inspect *in = r->in;
    char name[96];
    text_json_open(t, '{');
    json_source(r, t);
    json_sum(t, &in->all);
    text_json_u64(t, "expires", in->expires);
    text_json_u64(t, "left_out", in->unselected);
    text_json_name(t, "expiry");
    text_json_open(t, '{');
    for (int i = 0; i < INSPECT_EXPIRIES; i++)
        text_json_u64(t, expiry_names[i], in->expiry[i]);
    text_add(t, "}");
    text_json_u64(t, "functions", in->functions);
    json_notes(t, "libraries", in->library, in->n_library);
    text_json_u64(t, "function_bytes", in->function_bytes);
    text_json_u64(t, "scripts", in->scripts);
    text_json_u64(t, "module_aux", in->module_aux);
    json_notes(t, "modules", in->module, in->n_module);
    text_json_u64(t, "with_metadata", in->with_meta);
    json_databases(in, t);
    text_json_text(t, "for", r->supposed ? facts_name(name, sizeof(name), r->supposed) : NULL);
    if (r->supposed) {
        text_json_name(t, "takes_functions");
        text_add(t, facts_has(r->supposed, FACTS_FUNCTIONS) ? "true" : "false");
    }
    json_types(r, t);
    json_biggest(in, t);
    text_add(t, "}\n");
}
