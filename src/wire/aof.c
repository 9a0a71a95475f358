// SPDX-License-Identifier: BSD-3-Clause
// AOF: manifest of a multi-part AOF, time annotations, what stands between commands.
#include "wire/aof.h"

#include "base/num.h"

#include <stdlib.h>

#define AOF_COMMENT_MAX 4096 /* longest comment, bytes */

/* --- words of a line, maybe quoted as the servers' sdsrepr() writes them --- */

static int hex(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The escape behind a backslash; returns the bytes it took. */
static size_t unescape(struct span s, char *ret)
{
    if (s.n >= 3 && s.p[0] == 'x' && hex(s.p[1]) >= 0 && hex(s.p[2]) >= 0) {
        *ret = (char)(hex(s.p[1]) * 16 + hex(s.p[2]));
        return 3;
    }
    static const char from[] = "nrtab", to[] = "\n\r\t\a\b";
    const char *at = s.p[0] ? strchr(from, s.p[0]) : NULL;
    *ret = at ? to[at - from] : (char)s.p[0];
    return 1;
}

/* Next word of *line into out, NUL-terminated. 1: a word, 0: none left, -1: does not fit or quotes
 * that do not end. */
static int next_word(struct span *line, char *out, size_t size)
{
    size_t i = 0, o = 0;
    while (i < line->n && line->p[i] == ' ')
        i++;
    if (i == line->n) return 0;
    bool quoted = line->p[i] == '"';
    i += quoted;
    while (i < line->n && line->p[i] != (quoted ? '"' : ' ')) {
        char c = (char)line->p[i++];
        if (quoted && c == '\\' && i < line->n)
            i += unescape(span_of(line->p + i, line->n - i), &c);
        if (o + 1 >= size || c == 0) return -1;
        out[o++] = c;
    }
    if (quoted && i++ == line->n) return -1;
    out[o] = 0;
    *line = span_of(line->p + i, line->n - i);
    return 1;
}

/* --- lines --- */

static int set_pair(struct aof_part *part, unsigned *seen, const char *key, const char *value)
{
    if (strcmp(key, "file") == 0) {
        memcpy(part->name, value, strlen(value) + 1);
        *seen |= 1;
    } else if (strcmp(key, "seq") == 0) {
        if (!num_get_i64(span_str(value), &part->seq)) return -1;
        *seen |= 2;
    } else if (strcmp(key, "type") == 0) {
        if (value[0] == 0 || value[1] != 0) return -1;
        const char *types = "bih", *at = strchr(types, value[0]);
        if (!at) return -1;
        part->type = (enum aof_part_type)(at - types);
        *seen |= 4;
    }
    return 0; /* startoffset, endoffset (Redis 8), and what may come */
}

/* One line. 1: a part, 0: a comment or empty, -1: not to be understood. */
static int parse_line(struct span line, struct aof_part *part)
{
    char key[AOF_NAME_MAX], value[AOF_NAME_MAX];
    unsigned seen = 0;
    int rc;
    if (line.n && line.p[line.n - 1] == '\r') line.n--;
    if (line.n == 0 || line.p[0] == '#') return 0;
    while ((rc = next_word(&line, key, sizeof(key))) == 1)
        if (next_word(&line, value, sizeof(value)) != 1 || set_pair(part, &seen, key, value) < 0)
            return -1;
    if (rc < 0 || seen != 7) return -1;
    bool plain = part->name[0] && !strchr(part->name, '/') && strcmp(part->name, ".") != 0 &&
                 strcmp(part->name, "..") != 0;
    return plain ? 1 : -1;
}

static int add_part(struct aof_manifest *m, const struct aof_part *part, struct err *err)
{
    if (part->type == AOF_HISTORY) return 0;
    if (m->n == AOF_PARTS_MAX) return err_set(err, ERR_FORMAT, "manifest: too many files");
    const struct aof_part *before = m->n ? &m->part[m->n - 1] : NULL;
    if (part->type == AOF_BASE && m->n && m->part[0].type == AOF_BASE)
        return err_set(err, ERR_FORMAT, "manifest: more than one base file");
    if (part->type == AOF_INCR && before && before->type == AOF_INCR && before->seq >= part->seq)
        return err_set(err, ERR_FORMAT, "manifest: increments are not in order");
    struct aof_part *grown = realloc(m->part, (m->n + 1) * sizeof(*grown));
    if (!grown) return err_set(err, ERR_NOMEM, "out of memory for a manifest");
    m->part = grown;
    /* The base is read first wherever its line stands. */
    size_t at = part->type == AOF_BASE ? 0 : m->n;
    memmove(grown + at + 1, grown + at, (m->n - at) * sizeof(*grown));
    grown[at] = *part;
    m->n++;
    return 0;
}

int aof_manifest_parse(struct aof_manifest *ret, struct span text, struct err *err)
{
    struct aof_manifest m = {0};
    unsigned number = 0;
    while (text.n) {
        const uint8_t *end = memchr(text.p, '\n', text.n);
        struct span line = span_of(text.p, end ? (size_t)(end - text.p) : text.n);
        text = span_of(line.p + line.n + (end != NULL), text.n - line.n - (end != NULL));
        struct aof_part part = {0};
        number++;
        int rc = parse_line(line, &part);
        if (rc < 0) err_set(err, ERR_FORMAT, "manifest: line %u is not to be understood", number);
        if (rc == 1) rc = add_part(&m, &part, err);
        if (rc < 0) {
            aof_manifest_release(&m);
            return -1;
        }
    }
    *ret = m;
    return 0;
}

void aof_manifest_release(struct aof_manifest *m)
{
    free(m->part);
    *m = (struct aof_manifest){0};
}

bool aof_timestamp(struct span line, int64_t *ret_ms)
{
    int64_t seconds;
    if (line.n < 5 || memcmp(line.p, "#TS:", 4) != 0) return false;
    if (!num_get_i64(span_of(line.p + 4, line.n - 4), &seconds)) return false;
    if (seconds < 0 || seconds > INT64_MAX / 1000) return false;
    *ret_ms = seconds * 1000;
    return true;
}

bool aof_is_rdb(const uint8_t *p, size_t n)
{
    return (n >= 5 && memcmp(p, "REDIS", 5) == 0) || (n >= 6 && memcmp(p, "VALKEY", 6) == 0);
}

/* --- between commands --- */

/* 1: it has no end. */
static int pass_comment(struct reader *r, int64_t *annotated_ms, struct err *err)
{
    size_t n = 0;
    do {
        if (n == AOF_COMMENT_MAX)
            return err_set(err, ERR_FORMAT, "no command at byte %llu: a comment without an end",
                           (unsigned long long)reader_pos(r));
        if (reader_need(r, n + 1, err) < 0) {
            r->p = r->end;
            return err->code == ERR_END ? 1 : -1;
        }
    } while (r->p[n++] != '\n');
    size_t text = n - 1;
    int64_t ms;
    if (text && r->p[text - 1] == '\r') text--;
    if (aof_timestamp(span_of(r->p, text), &ms)) *annotated_ms = ms;
    r->p += n;
    reader_release(r);
    return 0;
}

int aof_to_command(struct reader *r, int64_t *annotated_ms, struct err *err)
{
    for (;;) {
        if (reader_need(r, 1, err) < 0) return err->code == ERR_END ? 1 : -1;
        if (*r->p == '*') return 0;
        /* Unlike a stream's, no command of a file is a line of plain words. */
        if (*r->p != '#')
            return err_set(err, ERR_FORMAT, "no command at byte %llu: it begins with byte 0x%02x",
                           (unsigned long long)reader_pos(r), (unsigned)*r->p);
        int rc = pass_comment(r, annotated_ms, err);
        if (rc != 0) return rc;
    }
}
