// SPDX-License-Identifier: BSD-3-Clause
// Inputs of commands, kept in files.
#include "io/inputs.h"

#include "base/crc64.h"
#include "base/log.h"
#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX     4096u
#define SEGMENT_BYTES (64u << 20)
#define INDEX_BYTES   (24u << 20) /* some 800,000 records; then the oldest file goes */
#define TABLE_BYTES   (32u << 20)
#define VERSION       1u
#define MARK          0x54504e49u /* "INPT" */
#define NOT_THERE     UINT64_MAX

struct file_head {
    char magic[8];
    uint32_t version;
    char load[INPUTS_LOAD_MAX];
    uint64_t since, crc;
};
struct record_head {
    uint64_t offset;
    uint32_t values, mark;
    uint64_t bytes, bytes_crc, crc;
};
struct table_row {
    uint64_t bytes;
    int64_t deadline_ms;
};
_Static_assert(sizeof(struct file_head) == 40 && sizeof(struct record_head) == 40,
               "heads lie in files as they are");

struct seg {
    uint64_t number, bytes;
    uint64_t last; /* highest offset in it; 0 none */
    int fd;
};

struct entry {
    uint64_t offset;
    uint64_t number; /* of its file */
    uint64_t at;     /* of its head */
    bool sure;       /* its bytes are known to be whole */
};

struct inputs {
    char *dir, load[INPUTS_LOAD_MAX];
    uint64_t since, max_bytes, segment_bytes, done;
    struct buf segs;   /* struct seg, ascending; the last is written to */
    struct buf index;  /* struct entry, by offset */
    struct buf table;  /* struct table_row, of the record that is written or read */
    struct buf values; /* struct inputs_value, of the one found last */
    int found_fd;
    bool writing;
    struct record_head head; /* of what is written */
    uint64_t at;             /* where its head will stand */
    uint64_t value_from;     /* bytes that were there before this value */
    size_t values_done;
};

static struct seg *seg_at(const struct inputs *in, size_t i)
{
    return (struct seg *)(void *)in->segs.p + i;
}
static size_t n_segs(const struct inputs *in)
{
    return in->segs.n / sizeof(struct seg);
}
static struct seg *tail(const struct inputs *in)
{
    return seg_at(in, n_segs(in) - 1);
}
static struct entry *entry_at(const struct inputs *in, size_t i)
{
    return (struct entry *)(void *)in->index.p + i;
}
static size_t n_entries(const struct inputs *in)
{
    return in->index.n / sizeof(struct entry);
}

/* --- files --- */

#define PATH_MAX_BYTES 4096

static void path_of(const struct inputs *in, uint64_t number, char out[PATH_MAX_BYTES])
{
    snprintf(out, PATH_MAX_BYTES, "%s/inputs-%016" PRIx64 ".log", in->dir, number);
}

static int io_error(const struct inputs *in, const char *what, struct err *err)
{
    enum err_code code = errno && file_no_room(errno) ? ERR_BUSY : ERR_IO;
    return err_set(err, code, "cannot %s the inputs of commands in %.300s: %s", what, in->dir,
                   errno ? strerror(errno) : "a file has become shorter");
}

static void drop_first(struct inputs *in)
{
    struct seg first = *seg_at(in, 0);
    char path[PATH_MAX_BYTES];
    size_t kept = 0;
    path_of(in, first.number, path);
    unlink(path);
    close(first.fd);
    memmove(in->segs.p, in->segs.p + sizeof(first), in->segs.n - sizeof(first));
    in->segs.n -= sizeof(first);
    for (size_t i = 0; i < n_entries(in); i++)
        if (entry_at(in, i)->number != first.number) *entry_at(in, kept++) = *entry_at(in, i);
    in->index.n = kept * sizeof(struct entry);
    if (first.last > in->since) in->since = first.last;
}

static int new_seg(struct inputs *in, struct err *err)
{
    struct seg s = {.number = n_segs(in) ? tail(in)->number + 1 : 1,
                    .bytes = sizeof(struct file_head)};
    struct file_head h = {.magic = "KHINPUT", .version = VERSION, .since = in->since};
    char path[PATH_MAX_BYTES];
    h.magic[7] = 'S';
    memcpy(h.load, in->load, sizeof(h.load));
    for (size_t i = 0; i < n_segs(in); i++)
        if (seg_at(in, i)->last > h.since) h.since = seg_at(in, i)->last;
    h.crc = crc64(0, &h, offsetof(struct file_head, crc));
    path_of(in, s.number, path);
    s.fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (s.fd < 0) return io_error(in, "create", err);
    if (file_pwrite(s.fd, &h, sizeof(h), 0) < 0 || fdatasync(s.fd) < 0) {
        io_error(in, "write", err);
    } else if (file_sync_parent(path, err) == 0 && buf_add(&in->segs, &s, sizeof(s), err) == 0) {
        return 0;
    }
    close(s.fd);
    unlink(path);
    return -1;
}

/* --- the index --- */

/* The first that is not below. */
static size_t find_entry(const struct inputs *in, uint64_t offset)
{
    size_t lo = 0, hi = n_entries(in);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (entry_at(in, mid)->offset < offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Offsets ascend, but for what is noted when a stretch is sent again. Of two of the same offset
 * the later one holds. */
static int add_entry(struct inputs *in, const struct entry *e, struct err *err)
{
    size_t at = find_entry(in, e->offset), n = n_entries(in);
    if (at < n && entry_at(in, at)->offset == e->offset) {
        *entry_at(in, at) = *e;
        return 0;
    }
    if (buf_add(&in->index, e, sizeof(*e), err) < 0) return -1;
    memmove(entry_at(in, at + 1), entry_at(in, at), (n - at) * sizeof(*e));
    *entry_at(in, at) = *e;
    return 0;
}

/* --- opening --- */

static uint64_t table_bytes(const struct record_head *h)
{
    return (uint64_t)h->values * sizeof(struct table_row);
}

static uint64_t record_bytes(const struct record_head *h)
{
    return sizeof(*h) + table_bytes(h) + h->bytes;
}

/* The head at `at` of a file of `size` bytes, and its table into in->table. False: none is there.
 */
static bool read_head(struct inputs *in, int fd, uint64_t size, uint64_t at,
                      struct record_head *ret)
{
    struct err ignored;
    struct record_head h;
    if (size - at < sizeof(h) || file_pread(fd, &h, sizeof(h), at) < 0) return false;
    uint64_t left = size - at - sizeof(h);
    if (h.mark != MARK || h.bytes > left || table_bytes(&h) > left - h.bytes) return false;
    size_t n = (size_t)table_bytes(&h);
    buf_clear(&in->table);
    if (buf_reserve(&in->table, n, &ignored) < 0) return false;
    if (n && file_pread(fd, in->table.p, n, at + sizeof(h)) < 0) return false;
    in->table.n = n;
    uint64_t crc = crc64(crc64(0, &h, offsetof(struct record_head, crc)), in->table.p, n);
    *ret = h;
    return crc == h.crc;
}

static bool bytes_are_whole(int fd, const struct record_head *h, uint64_t at)
{
    uint8_t tmp[65536];
    uint64_t crc = 0, from = at + sizeof(*h) + table_bytes(h), left = h->bytes;
    while (left) {
        size_t n = left < sizeof(tmp) ? (size_t)left : sizeof(tmp);
        if (file_pread(fd, tmp, n, from) < 0) return false;
        crc = crc64(crc, tmp, n);
        from += n;
        left -= n;
    }
    return crc == h->bytes_crc;
}

/* Its records into the index. What stands behind the last whole one was never used: it is cut off.
 * Only the last of a file can be half written. *ret_cut: so many bytes. */
static int scan_seg(struct inputs *in, struct seg *s, uint64_t size, uint64_t *ret_cut,
                    struct err *err)
{
    struct record_head h;
    s->bytes = sizeof(struct file_head);
    while (read_head(in, s->fd, size, s->bytes, &h)) {
        uint64_t end = s->bytes + record_bytes(&h);
        if (end == size && !bytes_are_whole(s->fd, &h, s->bytes)) break;
        struct entry e = {.offset = h.offset, .number = s->number, .at = s->bytes};
        if (add_entry(in, &e, err) < 0) return -1;
        if (h.offset > s->last) s->last = h.offset;
        s->bytes = end;
    }
    *ret_cut = size - s->bytes;
    if (*ret_cut && ftruncate(s->fd, (off_t)s->bytes) < 0) return io_error(in, "cut", err);
    return 0;
}

enum seen { SEEN_OURS, SEEN_OTHERS, SEEN_BROKEN };

static enum seen look_at(const struct inputs *in, int fd, uint64_t *ret_since)
{
    struct file_head h;
    if (file_pread(fd, &h, sizeof(h), 0) < 0 || memcmp(h.magic, "KHINPUTS", 8) != 0 ||
        h.version != VERSION || h.crc != crc64(0, &h, offsetof(struct file_head, crc)))
        return SEEN_BROKEN;
    *ret_since = h.since;
    return memcmp(h.load, in->load, sizeof(h.load)) == 0 ? SEEN_OURS : SEEN_OTHERS;
}

/* All that were there before are of no use without it, or are another load's. */
static void forget_all(struct inputs *in)
{
    while (n_segs(in))
        drop_first(in);
}

/* *since: of the caller, for what is damaged. */
static int open_seg(struct inputs *in, uint64_t number, bool last, uint64_t since, struct err *err)
{
    struct seg s = {.number = number};
    struct stat st;
    char path[PATH_MAX_BYTES];
    uint64_t file_since = 0, cut = 0;
    path_of(in, number, path);
    s.fd = open(path, O_RDWR | O_CLOEXEC);
    if (s.fd < 0) return errno == ENOENT ? 0 : io_error(in, "open", err);
    if (fstat(s.fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(s.fd);
        return err_set(err, ERR_IO, "%.300s is no file", path);
    }
    enum seen seen = look_at(in, s.fd, &file_since);
    bool torn = seen == SEEN_BROKEN && last && (uint64_t)st.st_size <= sizeof(struct file_head);
    if (seen == SEEN_BROKEN && !torn) {
        log_warn("%s is damaged", path);
        if (since > in->since) in->since = since;
    }
    if (seen != SEEN_OURS) {
        close(s.fd);
        unlink(path);
        return 0;
    }
    if (n_segs(in) == 0 && file_since > in->since) in->since = file_since;
    if (scan_seg(in, &s, (uint64_t)st.st_size, &cut, err) < 0 ||
        buf_add(&in->segs, &s, sizeof(s), err) < 0) {
        close(s.fd);
        return -1;
    }
    if (cut && !last) {
        log_warn("%s is damaged", path);
        if (since > in->since) in->since = since;
    }
    return 0;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool number_of(const char *name, uint64_t *ret)
{
    char *end;
    if (strncmp(name, "inputs-", 7) != 0 || strlen(name) != 27 || strcmp(name + 23, ".log") != 0)
        return false;
    if (strspn(name + 7, "0123456789abcdef") != 16) return false;
    *ret = strtoull(name + 7, &end, 16);
    return true;
}

static int list_files(struct inputs *in, struct buf *numbers, struct err *err)
{
    DIR *d = opendir(in->dir);
    if (!d) return errno == ENOENT ? file_make_dir(in->dir, err) : io_error(in, "list", err);
    int rc = 0;
    uint64_t number;
    for (struct dirent *e; rc == 0 && (e = readdir(d));)
        if (number_of(e->d_name, &number)) rc = buf_add(numbers, &number, sizeof(number), err);
    closedir(d);
    return rc;
}

static int open_files(struct inputs *in, uint64_t since, struct err *err)
{
    struct buf numbers;
    buf_init(&numbers, FILES_MAX * sizeof(uint64_t));
    int rc = list_files(in, &numbers, err);
    uint64_t *number = (uint64_t *)(void *)numbers.p;
    size_t n = numbers.n / sizeof(*number);
    if (n) qsort(number, n, sizeof(*number), by_number);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = open_seg(in, number[i], i + 1 == n, since, err);
    buf_release(&numbers);
    if (rc < 0 || n_segs(in)) return rc;
    if (since > in->since) in->since = since;
    return new_seg(in, err);
}

int inputs_open(struct inputs **ret, const struct inputs_config *cfg, struct err *err)
{
    struct inputs *in = calloc(1, sizeof(*in));
    if (!in || !(in->dir = strdup(cfg->dir))) {
        free(in);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    snprintf(in->load, sizeof(in->load), "%s", cfg->load);
    in->max_bytes = cfg->max_bytes;
    in->segment_bytes = cfg->segment_bytes ? cfg->segment_bytes : SEGMENT_BYTES;
    buf_init(&in->segs, FILES_MAX * sizeof(struct seg));
    buf_init(&in->index, INDEX_BYTES);
    buf_init(&in->table, TABLE_BYTES);
    buf_init(&in->values, TABLE_BYTES * 2);
    if (open_files(in, cfg->since, err) < 0) {
        inputs_close(in);
        return -1;
    }
    *ret = in;
    return 0;
}

void inputs_close(struct inputs *in)
{
    if (!in) return;
    for (size_t i = 0; i < n_segs(in); i++)
        close(seg_at(in, i)->fd);
    buf_release(&in->segs);
    buf_release(&in->index);
    buf_release(&in->table);
    buf_release(&in->values);
    free(in->dir);
    free(in);
}

void inputs_discard(struct inputs *in)
{
    if (in) forget_all(in);
    inputs_close(in);
}

/* --- writing --- */

static uint64_t all_bytes(const struct inputs *in)
{
    uint64_t n = 0;
    for (size_t i = 0; i < n_segs(in); i++)
        n += seg_at(in, i)->bytes;
    return n;
}

static bool is_crowded(const struct inputs *in)
{
    return all_bytes(in) > in->max_bytes || in->index.n + sizeof(struct entry) > in->index.cap ||
           n_segs(in) == FILES_MAX;
}

/* Room for a record: a new file when the last is long enough, and the oldest goes when all are too
 * large. */
static int make_room(struct inputs *in, struct err *err)
{
    bool crowded = is_crowded(in);
    if (tail(in)->bytes >= in->segment_bytes || (crowded && tail(in)->last)) {
        if (n_segs(in) == FILES_MAX) drop_first(in);
        if (new_seg(in, err) < 0) return -1;
    }
    while (n_segs(in) > 1 && is_crowded(in))
        drop_first(in);
    return 0;
}

int inputs_begin(struct inputs *in, uint64_t offset, size_t values, struct err *err)
{
    in->writing = false;
    if (values > TABLE_BYTES / sizeof(struct table_row))
        return err_set(err, ERR_LIMIT, "a command of the stream reads %zu keys of other nodes",
                       values);
    if (make_room(in, err) < 0) return -1;
    in->head = (struct record_head){.offset = offset, .values = (uint32_t)values, .mark = MARK};
    in->at = tail(in)->bytes;
    in->value_from = 0;
    in->values_done = 0;
    buf_clear(&in->table);
    if (buf_reserve(&in->table, (size_t)table_bytes(&in->head), err) < 0) return -1;
    in->writing = true;
    return 0;
}

int inputs_part(struct inputs *in, const void *p, size_t n, struct err *err)
{
    struct record_head *h = &in->head;
    if (!in->writing) return err_set(err, ERR_INTERNAL, "inputs of no command");
    if (n > INPUTS_BYTES - h->bytes)
        return err_set(err, ERR_LIMIT,
                       "a command of the stream reads more than %u MB of other nodes' keys, which "
                       "cannot be brought to where it writes",
                       INPUTS_BYTES >> 20);
    uint64_t at = in->at + sizeof(*h) + table_bytes(h) + h->bytes;
    if (file_pwrite(tail(in)->fd, p, n, at) < 0) return io_error(in, "write", err);
    h->bytes_crc = crc64(h->bytes_crc, p, n);
    h->bytes += n;
    return 0;
}

int inputs_value(struct inputs *in, bool there, int64_t deadline_ms, struct err *err)
{
    struct record_head *h = &in->head;
    struct table_row row = {there ? h->bytes - in->value_from : NOT_THERE, deadline_ms};
    if (!in->writing || in->values_done == h->values || (!there && h->bytes != in->value_from))
        return err_set(err, ERR_INTERNAL, "an input of no command");
    in->value_from = h->bytes;
    in->values_done++;
    return buf_add(&in->table, &row, sizeof(row), err);
}

int inputs_end(struct inputs *in, struct err *err)
{
    struct record_head *h = &in->head;
    struct seg *s = tail(in);
    if (!in->writing || in->values_done != h->values)
        return err_set(err, ERR_INTERNAL, "inputs that are not all there");
    h->crc = crc64(crc64(0, h, offsetof(struct record_head, crc)), in->table.p, in->table.n);
    if ((in->table.n && file_pwrite(s->fd, in->table.p, in->table.n, in->at + sizeof(*h)) < 0) ||
        file_pwrite(s->fd, h, sizeof(*h), in->at) < 0 || fdatasync(s->fd) < 0)
        return io_error(in, "write", err);
    struct entry e = {.offset = h->offset, .number = s->number, .at = in->at, .sure = true};
    if (add_entry(in, &e, err) < 0) return -1;
    s->bytes = in->at + record_bytes(h);
    if (h->offset > s->last) s->last = h->offset;
    in->writing = false;
    return 0;
}

/* --- reading --- */

static const struct seg *seg_of(const struct inputs *in, uint64_t number)
{
    for (size_t i = 0; i < n_segs(in); i++)
        if (seg_at(in, i)->number == number) return seg_at(in, i);
    return NULL;
}

/* False: the table and the bytes do not belong together. */
static int take_values(struct inputs *in, const struct record_head *h, uint64_t at, struct err *err)
{
    const struct table_row *row = (const struct table_row *)(const void *)in->table.p;
    uint64_t from = at + sizeof(*h) + table_bytes(h), left = h->bytes;
    buf_clear(&in->values);
    for (uint32_t i = 0; i < h->values; i++) {
        struct inputs_value v = {.at = from,
                                 .n = row[i].bytes == NOT_THERE ? 0 : row[i].bytes,
                                 .deadline_ms = row[i].deadline_ms,
                                 .there = row[i].bytes != NOT_THERE};
        if (v.n > left) return 0;
        if (buf_add(&in->values, &v, sizeof(v), err) < 0) return -1;
        from += v.n;
        left -= v.n;
    }
    return left == 0;
}

int inputs_find(struct inputs *in, uint64_t offset, const struct inputs_value **ret, size_t *ret_n,
                struct err *err)
{
    struct record_head h;
    size_t i = find_entry(in, offset);
    in->writing = false; /* the table is one */
    if (i == n_entries(in) || entry_at(in, i)->offset != offset) return 0;
    struct entry e = *entry_at(in, i);
    const struct seg *s = seg_of(in, e.number);
    int rc = s && read_head(in, s->fd, s->bytes, e.at, &h) && h.offset == offset &&
             (e.sure || bytes_are_whole(s->fd, &h, e.at));
    if (rc) rc = take_values(in, &h, e.at, err);
    if (rc < 0) return -1;
    if (rc == 0) {
        log_warn("the inputs of a command at offset %" PRIu64 " in %s are damaged", offset,
                 in->dir);
        if (offset > in->since) in->since = offset;
        return 0;
    }
    entry_at(in, i)->sure = true;
    in->found_fd = s->fd;
    *ret = (const struct inputs_value *)(const void *)in->values.p;
    *ret_n = h.values;
    return 1;
}

bool inputs_covers(const struct inputs *in, uint64_t offset)
{
    return offset > in->since;
}

int inputs_read(const struct inputs *in, uint64_t at, void *p, size_t n, struct err *err)
{
    return file_pread(in->found_fd, p, n, at) < 0 ? io_error(in, "read", err) : 0;
}

void inputs_done(struct inputs *in, uint64_t offset)
{
    if (offset <= in->done) return;
    in->done = offset;
    while (n_segs(in) > 1 && seg_at(in, 0)->last < offset)
        drop_first(in);
}
