// SPDX-License-Identifier: BSD-3-Clause
// Which files there are, and what they are not.
#include "control/input.h"

#include "base/buf.h"
#include "base/clock.h"
#include "wire/aof.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST_MAX (1u << 20) /* bytes */
#define MAGIC_BYTES  6
#define HEAD_BYTES   512 /* that tell what a file is that is no data */

static bool is_standard(const char *path)
{
    return strcmp(path, "-") == 0;
}

/* By errno. What the user names wrongly is wrong usage; a file that a manifest names is missing. */
static int cannot(const char *what, const char *path, bool named, struct err *err)
{
    bool like_server = named && errno == ENOENT && strchr(path, ':') && !strchr(path, '/');
    const char *advice = errno == EACCES ? "; run keyhaul as a user who may read it, or copy it"
                         : like_server   ? "; a server is named by redis://host:port"
                                         : "";
    return err_set(err, errno == ENOENT && named ? ERR_USAGE : ERR_IO, "cannot %s %.300s: %s%s",
                   what, path, strerror(errno), advice);
}

/* --- what it is not --- */

struct magic {
    const char *bytes;
    size_t at, n;
    const char *is, *unpack; /* NULL: cannot be had through a pipe */
};

static const struct magic magics[] = {
    {"\x1f\x8b", 0, 2, "compressed by gzip", "zcat"},
    {"\x28\xb5\x2f\xfd", 0, 4, "compressed by zstd", "zstdcat"},
    {"\xfd\x37zXZ", 0, 5, "compressed by xz", "xzcat"},
    {"BZh", 0, 3, "compressed by bzip2", "bzcat"},
    {"\x04\x22\x4d\x18", 0, 4, "compressed by lz4", "lz4cat"},
    {"PK\x03\x04", 0, 4, "a zip archive", "unzip -p"},
    {"ustar", 257, 5, "a tar archive", NULL},
};

/* ASCII: of other bytes nothing is said. */
static bool is_text(struct span head)
{
    for (size_t i = 0; i < head.n; i++) {
        uint8_t c = head.p[i];
        if (c >= 127 || (c < 32 && c != '\t' && c != '\n' && c != '\r' && c != '\f')) return false;
    }
    return true;
}

static int refuse_packed(const struct input *in, const char *path, const struct magic *m,
                         struct err *err)
{
    if (!m->unpack)
        return err_set(err, ERR_FORMAT, "it is %s; unpack it, and name the file in it", m->is);
    if (is_standard(path))
        return err_set(err, ERR_FORMAT, "it is %s; unpack it before: ... | %s | keyhaul %s -",
                       m->is, m->unpack, in->command);
    return err_set(err, ERR_FORMAT, "it is %s; unpack it on the way: %s %.200s | keyhaul %s -",
                   m->is, m->unpack, path, in->command);
}

/* Never its content: it may be any file, one of passwords among them. */
static int refuse(const struct input *in, const char *path, struct span head, struct err *err)
{
    for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
        const struct magic *m = &magics[i];
        if (head.n >= m->at + m->n && memcmp(head.p + m->at, m->bytes, m->n) == 0)
            return refuse_packed(in, path, m, err);
    }
    if (is_text(head))
        return err_set(err, ERR_FORMAT,
                       "it is text, neither an RDB nor an AOF; CONFIG GET dir and CONFIG GET "
                       "dbfilename tell where a server keeps its own");
    return err_set(err, ERR_FORMAT,
                   "it is neither an RDB, which begins with REDIS or VALKEY, nor an AOF, which "
                   "begins with * or an RDB; perhaps it is encrypted, or not whole");
}

static bool begins_commands(uint8_t c)
{
    return c == '*' || c == '#';
}

/* Of an RDB that is cut off within its first word. */
static bool is_part_of_magic(struct span head)
{
    return (head.n <= 5 && memcmp(head.p, "REDIS", head.n) == 0) ||
           (head.n <= 6 && memcmp(head.p, "VALKEY", head.n) == 0);
}

/* By its first bytes; 1: more of them are needed to say what it is, for it is no data. */
static int weigh_head(struct span head, enum input_kind *ret)
{
    *ret = INPUT_EMPTY;
    if (head.n == 0) return 0;
    *ret = begins_commands(*head.p) ? INPUT_COMMANDS : INPUT_RDB;
    return *ret == INPUT_RDB && !aof_is_rdb(head.p, head.n) && !is_part_of_magic(head);
}

/* So many bytes, or all there are. */
static int peek(struct reader *r, size_t n, struct span *ret, struct err *err)
{
    struct err why;
    if (reader_need(r, n, &why) < 0 && why.code != ERR_END)
        return err_set(err, why.code, "%s", why.msg);
    size_t got = (size_t)(r->end - r->p);
    *ret = span_of(r->p, got < n ? got : n);
    return 0;
}

/* A pipe is not waited for longer than needed. */
int input_begins(const struct input *in, size_t i, struct reader *r, enum input_kind *ret,
                 struct err *err)
{
    static const size_t steps[] = {1, MAGIC_BYTES, HEAD_BYTES};
    struct span head;
    for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
        if (peek(r, steps[s], &head, err) < 0) return -1;
        bool short_of = head.n == steps[s] && steps[s] < MAGIC_BYTES;
        if (weigh_head(head, ret) == 0 && (*ret != INPUT_RDB || !short_of)) return 0;
    }
    return refuse(in, in->path[i], head, err);
}

/* --- which files --- */

static int add_file(struct input *in, const char *dir, const char *name, struct err *err)
{
    char(*grown)[PATH_MAX] = realloc(in->path, (in->n + 1) * sizeof(*grown));
    if (!grown) return err_set(err, ERR_NOMEM, "out of memory");
    in->path = grown;
    int n = snprintf(grown[in->n], PATH_MAX, "%s%s%s", dir, *dir ? "/" : "", name);
    if (n < 0 || n >= PATH_MAX) return err_set(err, ERR_USAGE, "the path is too long");
    in->n++;
    return 0;
}

static int read_small(const char *path, struct buf *b, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return cannot("open", path, true, err);
    ssize_t n = 0;
    int rc = buf_reserve(b, MANIFEST_MAX, err);
    while (rc == 0 && (n = read(fd, b->p + b->n, MANIFEST_MAX - b->n)) > 0)
        b->n += (size_t)n;
    if (n < 0) rc = cannot("read", path, true, err);
    close(fd);
    if (rc == 0 && b->n == MANIFEST_MAX)
        return err_set(err, ERR_FORMAT, "%.300s is too large for a manifest", path);
    return rc;
}

static int add_manifest(struct input *in, const char *dir, const char *path, struct err *err)
{
    struct buf text;
    struct aof_manifest m = {0};
    buf_init(&text, MANIFEST_MAX);
    int rc = read_small(path, &text, err);
    if (rc == 0 && aof_manifest_parse(&m, buf_span(&text), err) < 0)
        rc = err_wrap(err, "%.200s", path);
    if (rc == 0 && m.n == 0)
        rc = err_set(err, ERR_FORMAT, "%.300s names no files that hold data", path);
    in->listed = true;
    for (size_t i = 0; i < m.n && rc == 0; i++)
        rc = add_file(in, dir, m.part[i].name, err);
    aof_manifest_release(&m);
    buf_release(&text);
    return rc;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), e = strlen(end);
    return n > e && strcmp(s + n - e, end) == 0;
}

/* How many files of a directory end so, the last of them into name; -1 unreadable. */
static int find_ending(const char *dir, const char *end, char *name, size_t size, struct err *err)
{
    DIR *d = opendir(dir);
    if (!d) return cannot("read", dir, true, err);
    int found = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (!ends_with(e->d_name, end) || strncmp(e->d_name, "temp-", 5) == 0) continue;
        snprintf(name, size, "%s", e->d_name);
        found++;
    }
    closedir(d);
    return found;
}

/* The manifest of a directory into name; 1 found, 0 none, -1 several or unreadable. */
static int find_manifest(const char *dir, char *name, size_t size, struct err *err)
{
    int found = find_ending(dir, ".manifest", name, size, err);
    if (found > 1) return err_set(err, ERR_USAGE, "%.300s holds several manifests: name one", dir);
    return found;
}

static bool is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* An RDB is not taken unasked: beside an AOF that is kept elsewhere it would be the older data. */
static int no_aof(const char *dir, struct err *err)
{
    char name[NAME_MAX + 1];
    int found = find_ending(dir, ".rdb", name, sizeof(name), err);
    if (found < 0) return -1;
    if (found == 0)
        return err_set(err, ERR_USAGE,
                       "%.300s is a directory without a manifest or an appendonly.aof; name the "
                       "file",
                       dir);
    return err_set(err, ERR_USAGE,
                   "%.300s is a directory without a manifest or an appendonly.aof; is it %.200s in "
                   "it that you want? Then name that file",
                   dir, found == 1 ? name : "one of the .rdb files");
}

/* A server's data directory, or the appendonlydir in it, or a copy of either. */
static int add_directory(struct input *in, const char *dir, struct err *err)
{
    char name[NAME_MAX + 1], path[PATH_MAX];
    int found = find_manifest(dir, name, sizeof(name), err);
    if (found < 0) return -1;
    if (found == 1 && snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path))
        return add_manifest(in, dir, path, err);
    if (snprintf(path, sizeof(path), "%s/appendonlydir", dir) < (int)sizeof(path) && is_dir(path)) {
        found = find_manifest(path, name, sizeof(name), err);
        if (found < 0) return -1;
        if (found == 1) return add_directory(in, path, err);
    }
    if (snprintf(path, sizeof(path), "%s/appendonly.aof", dir) < (int)sizeof(path) &&
        access(path, R_OK) == 0)
        return add_file(in, dir, "appendonly.aof", err);
    return no_aof(dir, err);
}

/* Its first line begins so, as no RDB and no AOF does; one of comments is told by its name. A pipe
 * is none. */
static bool is_manifest(const char *path)
{
    struct stat st;
    char head[MAGIC_BYTES] = "";
    bool named = ends_with(path, ".manifest");
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode)) return named;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof(head), 0);
    if (fd >= 0) close(fd);
    if (n < 5) return named;
    if (memcmp(head, "file ", 5) == 0) return true;
    return named && head[0] != '*' && !aof_is_rdb((const uint8_t *)head, (size_t)n);
}

static int list_files(struct input *in, struct err *err)
{
    if (is_standard(in->name)) return add_file(in, "", "-", err);
    if (is_dir(in->name)) return add_directory(in, in->name, err);
    if (!is_manifest(in->name)) return add_file(in, "", in->name, err);
    char dir[PATH_MAX];
    snprintf(dir, sizeof(dir), "%s", in->name);
    char *slash = strrchr(dir, '/');
    if (slash) *slash = 0;
    return add_manifest(in, slash ? slash == dir ? "/" : dir : ".", in->name, err);
}

/* --- one file --- */

int input_open(const struct input *in, size_t i, struct input_file *ret, struct err *err)
{
    struct stat st;
    const char *path = in->path[i];
    int fd = is_standard(path) ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) return cannot("open", path, !in->listed, err);
    bool file = S_ISREG(st.st_mode);
    *ret = (struct input_file){fd, file ? (int64_t)st.st_mtim.tv_sec * 1000 : clock_wall_ms()};
    return 0;
}

void input_close(const struct input_file *f)
{
    if (f->fd != STDIN_FILENO) close(f->fd);
}

const char *input_shown(const struct input *in, size_t i)
{
    return is_standard(in->path[i]) ? "standard input" : in->path[i];
}

/* What a file that is no pipe begins with. */
static int weigh_content(struct input *in, size_t i, struct err *err)
{
    struct input_file f = {.fd = -1};
    enum input_kind kind;
    uint8_t head[HEAD_BYTES];
    if (input_open(in, i, &f, err) < 0) return -1;
    ssize_t n = pread(f.fd, head, sizeof(head), 0);
    input_close(&f);
    if (n < 0) return cannot("read", in->path[i], !in->listed, err);
    struct span seen = span_of(head, (size_t)n);
    if (weigh_head(seen, &kind) == 1 && refuse(in, in->path[i], seen, err) < 0)
        return err_wrap(err, "%.150s", in->path[i]);
    in->commands |= kind == INPUT_COMMANDS;
    return 0;
}

/* Pipes are not opened twice: whoever writes into one would be told that nobody reads any more. */
static int weigh_file(struct input *in, size_t i, bool *known, struct err *err)
{
    struct stat st;
    const char *path = in->path[i];
    if ((is_standard(path) ? fstat(STDIN_FILENO, &st) : stat(path, &st)) < 0)
        return cannot("open", path, !in->listed, err);
    if (S_ISDIR(st.st_mode))
        return err_set(err, in->listed ? ERR_IO : ERR_USAGE, "%.300s is a directory", path);
    *known &= S_ISREG(st.st_mode);
    if (!S_ISREG(st.st_mode)) return 0;
    in->bytes += (uint64_t)st.st_size;
    return is_standard(path) ? 0 : weigh_content(in, i, err);
}

int input_find(struct input *in, const char *command, const char *name, struct err *err)
{
    bool known = true;
    *in = (struct input){.command = command, .name = name};
    if (list_files(in, err) < 0) return -1;
    for (size_t i = 0; i < in->n; i++)
        if (weigh_file(in, i, &known, err) < 0) return -1;
    if (known && in->bytes == 0)
        return err_set(err, ERR_FORMAT, "%.300s is empty: there is nothing to read",
                       in->n == 1 ? input_shown(in, 0) : name);
    if (!known) in->bytes = 0;
    return 0;
}

void input_release(struct input *in)
{
    free(in->path);
    *in = (struct input){0};
}
