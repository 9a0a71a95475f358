// SPDX-License-Identifier: BSD-3-Clause
// shards.json: written, read and checked.
#include "control/group_state.h"

#include "base/num.h"
#include "control/state_impl.h"
#include "control/text.h"
#include "io/file.h"

#include <stdlib.h>
#include <unistd.h>

#define SCHEMA   1
#define FILE_MAX (32u << 20)
#define NAME     "shards.json"

int group_state_add(struct group_state *s, unsigned number, struct group_shard **ret,
                    struct err *err)
{
    struct group_shard *made = calloc(1, sizeof(*made));
    struct group_shard **more = made ? realloc(s->shard, (s->n + 1) * sizeof(*more)) : NULL;
    if (!more) {
        free(made);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    s->shard = more;
    made->number = number;
    more[s->n++] = made;
    *ret = made;
    return 0;
}

void group_state_release(struct group_state *s)
{
    for (unsigned i = 0; i < s->n; i++)
        free(s->shard[i]);
    free(s->shard);
    *s = (struct group_state){0};
}

bool group_state_exists(const char *dir)
{
    char path[PATH_MAX];
    struct err err;
    return state_path(path, dir, NAME, &err) == 0 && access(path, F_OK) == 0;
}

/* --- slots as text: "0-5460,7000" --- */

static void put_slots(struct text *t, const char *name, const struct slot_set *s)
{
    const char *comma = "";
    text_json_name(t, name);
    text_add(t, "\"");
    for (unsigned from = slot_set_next(s, 0), to; from < SLOT_COUNT;
         from = slot_set_next(s, to + 1)) {
        for (to = from; to + 1 < SLOT_COUNT && slot_set_has(s, (uint16_t)(to + 1)); to++)
            continue;
        text_printf(t, to > from ? "%s%u-%u" : "%s%u", comma, from, to);
        comma = ",";
    }
    text_add(t, "\"");
}

static bool get_slot(const char **at, unsigned *ret)
{
    size_t n = strspn(*at, "0123456789");
    uint64_t v;
    if (!num_get_u64(span_of(*at, n), &v) || v >= SLOT_COUNT) return false;
    *ret = (unsigned)v;
    *at += n;
    return true;
}

static bool get_slots(struct slot_set *ret, const char *text)
{
    unsigned from, to;
    while (text && *text) {
        if (!get_slot(&text, &from)) return false;
        to = from;
        if (*text == '-') {
            text++;
            if (!get_slot(&text, &to) || to < from) return false;
        }
        for (unsigned i = from; i <= to; i++)
            slot_set_add(ret, (uint16_t)i);
        if (*text == ',') text++;
    }
    return text != NULL;
}

/* --- writing --- */

static void put_shard(struct text *t, const struct group_shard *s)
{
    text_json_open(t, '{');
    text_json_u64(t, "shard", s->number);
    text_json_name(t, "ended");
    text_add(t, s->ended ? "true" : "false");
    text_json_name(t, "nodes");
    text_json_open(t, '[');
    for (unsigned i = 0; i < s->n_nodes; i++) {
        if (i) text_add(t, ",");
        text_json_string(t, s->node[i]);
    }
    text_add(t, "]");
    put_slots(t, "slots", &s->slots);
    put_slots(t, "settle", &s->settle);
    put_slots(t, "settled", &s->settled);
    text_json_u64(t, "settled_to", s->settled_to);
    text_add(t, "}");
}

int group_state_save(const struct group_state *s, const char *dir, struct err *err)
{
    char path[PATH_MAX];
    struct text t;
    if (state_path(path, dir, NAME, err) < 0) return -1;
    text_init(&t, FILE_MAX);
    text_json_open(&t, '{');
    text_json_u64(&t, "schema", SCHEMA);
    text_json_name(&t, "shards");
    text_json_open(&t, '[');
    for (unsigned i = 0; i < s->n; i++)
        put_shard(&t, s->shard[i]);
    text_add(&t, "]}\n");
    int rc = text_result(&t, err);
    if (rc == 0) rc = file_write_private(path, buf_span(&t.buf), true, err);
    text_release(&t);
    return rc;
}

/* --- reading --- */

static bool read_nodes(struct group_shard *s, const json_t *of)
{
    size_t n = json_array_size(of);
    if (!json_is_array(of) || n > GROUP_NODES_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        const char *id = json_string_value(json_array_get(of, i));
        if (!id || strlen(id) >= CLUSTER_ID_MAX) return false;
        memcpy(s->node[s->n_nodes++], id, strlen(id) + 1);
    }
    return true;
}

static bool read_shard(struct group_shard *s, const json_t *of)
{
    const json_t *number = json_object_get(of, "shard"), *ended = json_object_get(of, "ended");
    json_int_t n = json_integer_value(number);
    if (n < 1 || n > UINT16_MAX || !json_is_boolean(ended)) return false;
    json_int_t to = json_integer_value(json_object_get(of, "settled_to"));
    s->number = (unsigned)n;
    s->settled_to = to > 0 ? (uint64_t)to : 0;
    s->ended = json_is_true(ended);
    return read_nodes(s, json_object_get(of, "nodes")) &&
           get_slots(&s->slots, json_string_value(json_object_get(of, "slots"))) &&
           get_slots(&s->settle, json_string_value(json_object_get(of, "settle"))) &&
           get_slots(&s->settled, json_string_value(json_object_get(of, "settled")));
}

/* Two shards of one number, or two owners of one slot, cannot be. */
static bool is_sound(const struct group_state *s)
{
    struct slot_set seen = {0};
    for (unsigned i = 0; i < s->n; i++) {
        struct slot_set both = s->shard[i]->slots;
        slot_set_and(&both, &seen);
        if (slot_set_count(&both) || (i && s->shard[i]->number <= s->shard[i - 1]->number))
            return false;
        slot_set_or(&seen, &s->shard[i]->slots);
    }
    return true;
}

static int read_shards(struct group_state *ret, const json_t *of, struct err *err)
{
    struct group_shard *s;
    const json_t *list = json_object_get(of, "shards");
    bool known = json_integer_value(json_object_get(of, "schema")) == SCHEMA;
    size_t n = json_array_size(list);
    if (!known || !json_is_array(list) || n > UINT16_MAX)
        return err_set(err, ERR_FORMAT, "it holds no shards");
    for (size_t i = 0; i < n; i++) {
        if (group_state_add(ret, 0, &s, err) < 0) return -1;
        if (!read_shard(s, json_array_get(list, i)))
            return err_set(err, ERR_FORMAT, "its shard %zu is not what it must be", i + 1);
    }
    return is_sound(ret) ? 0 : err_set(err, ERR_FORMAT, "its shards contradict each other");
}

int group_state_read(struct group_state *ret, const char *dir, struct err *err)
{
    char path[PATH_MAX];
    struct buf text;
    struct group_state made = {0};
    if (state_path(path, dir, NAME, err) < 0) return -1;
    buf_init(&text, FILE_MAX);
    int rc = file_read_whole(path, &text, err);
    if (rc == 1) {
        json_t *json = json_loadb((const char *)text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
        rc = read_shards(&made, json, err) < 0 ? -1 : 1;
        if (rc < 0) err_wrap(err, "%.300s is damaged", path);
        json_decref(json);
    }
    buf_release(&text);
    if (rc == 1)
        *ret = made;
    else
        group_state_release(&made);
    return rc;
}
