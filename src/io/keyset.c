// SPDX-License-Identifier: BSD-3-Clause
// A set of hashes of keys: gathered and sorted in memory, runs on disk, merged into one file.
#include "io/keyset.h"

#include "io/file.h"
#include "io/store.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define HASH_BYTES  sizeof(uint64_t)
#define PAGE_HASHES 512u
#define PAGE_BYTES  (PAGE_HASHES * HASH_BYTES)
#define OUT_HASHES  (16 * PAGE_HASHES) /* written at once */
#define SMALL_BYTES 65536u             /* sets up to this need no file */
#define WINDOW_MIN  64u                /* hashes of one run in memory, when runs are merged */
#define FIRST_ALLOC 1024u
#define INSERT_MAX  24u
#define NO_PAGE     SIZE_MAX
#define REMOVED     1u /* lowest bit of a hash in the file */

struct keyset {
    uint64_t seed;
    bool sealed;
    uint64_t *mem; /* gathered, room for `alloc`, never more than `most` */
    size_t n, alloc, most;
    struct store runs;   /* each of `most` hashes, the last one of fewer */
    struct store sorted; /* of a set made here, little endian */
    int fd;              /* of a loaded one; else -1 */
    char *path;
    uint64_t total, removed; /* hashes in the sorted file, and those of them with the bit */
    uint64_t *index;         /* first hash of each page */
    size_t n_pages, index_alloc;
    uint64_t page[PAGE_HASHES]; /* the page looked at last */
    size_t page_at, page_n;
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "out of memory for a set of keys");
}

static uint64_t hash_of(const struct keyset *k, uint64_t db, struct span key)
{
    uint64_t le = htole64(db);
    uint64_t seed = XXH3_64bits_withSeed(&le, sizeof(le), k->seed);
    return XXH3_64bits_withSeed(key.n ? (const void *)key.p : "", key.n, seed) & ~(uint64_t)REMOVED;
}

int keyset_seed(uint64_t *ret, struct err *err)
{
    uint64_t seed;
    ssize_t n;
    do {
        n = getrandom(&seed, sizeof(seed), 0);
    } while (n < 0 && errno == EINTR);
    if (n != sizeof(seed)) return err_set(err, ERR_IO, "no random numbers: %s", strerror(errno));
    *ret = seed;
    return 0;
}

int keyset_new(struct keyset **ret, const char *dir, uint64_t seed, size_t mem_bytes,
               struct err *err)
{
    struct keyset *k = calloc(1, sizeof(*k));
    if (!k) return no_memory(err);
    k->seed = seed;
    k->fd = -1;
    k->page_at = NO_PAGE;
    k->most = (mem_bytes ? mem_bytes : KEYSET_MEM_BYTES) / HASH_BYTES;
    if (k->most < PAGE_HASHES) k->most = PAGE_HASHES;
    store_init(&k->runs, 0, UINT64_MAX, dir);
    store_init(&k->sorted, SMALL_BYTES, UINT64_MAX, dir);
    *ret = k;
    return 0;
}

void keyset_free(struct keyset *k)
{
    if (!k) return;
    store_release(&k->runs);
    store_release(&k->sorted);
    if (k->fd >= 0) close(k->fd);
    free(k->path);
    free(k->mem);
    free(k->index);
    free(k);
}

uint64_t keyset_count(const struct keyset *k)
{
    return k->total - k->removed;
}

/* --- sorting in memory: by one byte at a time, in place, so that it needs no second copy and no
 * choice of keys makes it slow --- */

static void insertion_sort(uint64_t *v, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        uint64_t x = v[i];
        size_t at = i;
        for (; at && x < v[at - 1]; at--)
            v[at] = v[at - 1];
        v[at] = x;
    }
}

static inline unsigned digit(uint64_t v, unsigned shift)
{
    return (unsigned)(v >> shift) & 255;
}

/* Each to its place: next[d] is where the next one with digit d belongs, end[d] where those end. */
static void deal(uint64_t *v, size_t next[256], const size_t end[256], unsigned shift)
{
    for (unsigned d = 0; d < 256; d++) {
        while (next[d] < end[d]) {
            uint64_t x = v[next[d]];
            for (unsigned to; (to = digit(x, shift)) != d;) {
                uint64_t other = v[next[to]];
                v[next[to]++] = x;
                x = other;
            }
            v[next[d]++] = x;
        }
    }
}

static void sort(uint64_t *v, size_t n, unsigned shift)
{
    size_t next[256] = {0}, end[256];
    for (size_t i = 0; i < n; i++)
        next[digit(v[i], shift)]++;
    size_t at = 0;
    for (unsigned d = 0; d < 256; d++) {
        size_t size = next[d];
        next[d] = at;
        end[d] = at += size;
    }
    deal(v, next, end, shift);
    if (shift == 0) return;
    at = 0;
    for (unsigned d = 0; d < 256; d++) {
        size_t size = end[d] - at;
        if (size > INSERT_MAX)
            sort(v + at, size, shift - 8);
        else
            insertion_sort(v + at, size);
        at = end[d];
    }
}

static void sort_mem(struct keyset *k)
{
    if (k->n > INSERT_MAX)
        sort(k->mem, k->n, 56);
    else
        insertion_sort(k->mem, k->n);
}

/* --- gathering --- */

static int write_run(struct keyset *k, struct err *err)
{
    sort_mem(k);
    if (store_add(&k->runs, k->mem, k->n * HASH_BYTES, err) < 0) return -1;
    k->n = 0;
    return 0;
}

static int grow(struct keyset *k, struct err *err)
{
    size_t alloc = k->alloc ? 2 * k->alloc : FIRST_ALLOC;
    if (alloc > k->most) alloc = k->most;
    uint64_t *mem = realloc(k->mem, alloc * HASH_BYTES);
    if (!mem) return no_memory(err);
    k->mem = mem;
    k->alloc = alloc;
    return 0;
}

int keyset_add(struct keyset *k, uint64_t db, struct span key, struct err *err)
{
    if (k->sealed) return err_set(err, ERR_INTERNAL, "a key for a set that is sealed");
    if (KH_UNLIKELY(k->n == k->alloc)) {
        if ((k->n == k->most ? write_run(k, err) : grow(k, err)) < 0) return -1;
    }
    k->mem[k->n++] = hash_of(k, db, key);
    return 0;
}

/* --- the sorted file --- */

static int add_page(struct keyset *k, uint64_t first, struct err *err)
{
    if (k->n_pages == k->index_alloc) {
        size_t alloc = k->index_alloc ? 2 * k->index_alloc : 64;
        uint64_t *index = realloc(k->index, alloc * HASH_BYTES);
        if (!index) return no_memory(err);
        k->index = index;
        k->index_alloc = alloc;
    }
    k->index[k->n_pages++] = first;
    return 0;
}

struct out {
    struct keyset *k;
    uint64_t *held; /* OUT_HASHES, little endian */
    size_t n;
    uint64_t last;
};

static int flush_out(struct out *o, struct err *err)
{
    int rc = store_add(&o->k->sorted, o->held, o->n * HASH_BYTES, err);
    o->n = 0;
    return rc;
}

/* They come in order; one that was there already is dropped. */
static inline int put(struct out *o, uint64_t hash, struct err *err)
{
    struct keyset *k = o->k;
    if (k->total && hash == o->last) return 0;
    if (k->total % PAGE_HASHES == 0 && add_page(k, hash, err) < 0) return -1;
    if (o->n == OUT_HASHES && flush_out(o, err) < 0) return -1;
    o->held[o->n++] = htole64(hash);
    o->last = hash;
    k->total++;
    return 0;
}

/* --- merging --- */

struct cursor { /* a run, in hashes */
    uint64_t at, end;
    uint64_t *window;
    size_t p, n;
};

struct head { /* the least of a run; a heap of them has the least of all on top */
    uint64_t hash;
    size_t run;
};

static void sift_down(struct head *h, size_t n, size_t at)
{
    struct head x = h[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && h[child + 1].hash < h[child].hash) child++;
        if (x.hash <= h[child].hash) break;
        h[at] = h[child];
    }
    h[at] = x;
}

/* The next hash of a run into h. 1, 0 at its end, -1. */
static inline int advance(struct keyset *k, struct cursor *c, size_t window, uint64_t *ret,
                          struct err *err)
{
    if (KH_UNLIKELY(c->p == c->n)) {
        size_t n = c->end - c->at < window ? (size_t)(c->end - c->at) : window;
        if (n == 0) return 0;
        if (store_read(&k->runs, c->at * HASH_BYTES, c->window, n * HASH_BYTES, err) < 0) return -1;
        c->at += n;
        c->n = n;
        c->p = 0;
    }
    *ret = c->window[c->p++];
    return 1;
}

static int merge_heap(struct keyset *k, struct cursor *c, struct head *heap, size_t n,
                      size_t window, struct out *o, struct err *err)
{
    for (size_t i = n; i-- > 0;)
        sift_down(heap, n, i);
    while (n) {
        if (put(o, heap->hash, err) < 0) return -1;
        int rc = advance(k, &c[heap->run], window, &heap->hash, err);
        if (rc < 0) return -1;
        if (rc == 0) *heap = heap[--n];
        sift_down(heap, n, 0);
    }
    return 0;
}

/* The memory that gathered them is cut into windows. */
static int merge_runs(struct keyset *k, struct out *o, struct err *err)
{
    uint64_t total = store_size(&k->runs) / HASH_BYTES;
    uint64_t n = (total + k->most - 1) / k->most;
    if (n > k->most / WINDOW_MIN)
        return err_set(err, ERR_LIMIT, "a set of %llu keys is too large",
                       (unsigned long long)total);
    size_t window = k->most / n, i = 0;
    struct cursor *c = calloc(n, sizeof(*c));
    struct head *heap = calloc(n, sizeof(*heap));
    int rc = c && heap ? 1 : no_memory(err);
    for (; i < n && rc == 1; i++) {
        uint64_t end = (i + 1) * k->most;
        c[i] = (struct cursor){
            .at = i * k->most, .end = end < total ? end : total, .window = k->mem + i * window};
        heap[i].run = i;
        rc = advance(k, &c[i], window, &heap[i].hash, err);
    }
    if (rc == 1) rc = merge_heap(k, c, heap, n, window, o, err);
    free(c);
    free(heap);
    return rc;
}

static int write_sorted(struct keyset *k, struct out *o, struct err *err)
{
    if (store_size(&k->runs)) {
        if (write_run(k, err) < 0 || merge_runs(k, o, err) < 0) return -1;
        return flush_out(o, err);
    }
    sort_mem(k);
    for (size_t i = 0; i < k->n; i++)
        if (put(o, k->mem[i], err) < 0) return -1;
    return flush_out(o, err);
}

int keyset_seal(struct keyset *k, struct err *err)
{
    if (k->sealed) return 0;
    struct out o = {.k = k, .held = malloc(OUT_HASHES * HASH_BYTES)};
    if (!o.held) return no_memory(err);
    int rc = write_sorted(k, &o, err);
    free(o.held);
    if (rc < 0) return -1;
    store_release(&k->runs);
    free(k->mem);
    k->mem = NULL;
    k->n = k->alloc = 0;
    k->sealed = true;
    return 0;
}

/* --- looking --- */

#define HEAD_BYTES 48

static int io_error(const struct keyset *k, const char *what, struct err *err)
{
    return err_set(err, ERR_IO, "cannot %s %.300s: %s", what, k->path,
                   errno ? strerror(errno) : "it has become shorter");
}

/* Page number `at` into k->page. */
static int read_page(struct keyset *k, size_t at, struct err *err)
{
    if (at == k->page_at) return 0;
    uint64_t from = (uint64_t)at * PAGE_HASHES, left = k->total - from;
    size_t n = left < PAGE_HASHES ? (size_t)left : PAGE_HASHES;
    k->page_at = NO_PAGE;
    if (k->fd >= 0) {
        if (file_pread(k->fd, k->page, n * HASH_BYTES, HEAD_BYTES + from * HASH_BYTES) < 0)
            return io_error(k, "read", err);
    } else if (store_read(&k->sorted, from * HASH_BYTES, k->page, n * HASH_BYTES, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i++)
        k->page[i] = le64toh(k->page[i]);
    k->page_at = at;
    k->page_n = n;
    return 0;
}

/* How many of the n first are not above `hash`. */
static size_t count_to(const uint64_t *v, size_t n, uint64_t hash)
{
    size_t low = 0;
    while (n) {
        size_t half = n / 2;
        bool above = (v[low + half] & ~(uint64_t)REMOVED) > hash;
        low = above ? low : low + half + 1;
        n = above ? half : n - half - 1;
    }
    return low;
}

/* 1: there, at *ret of k->page; 0: not there, or removed. */
static int find(struct keyset *k, uint64_t db, struct span key, size_t *ret, struct err *err)
{
    if (!k->sealed) return err_set(err, ERR_INTERNAL, "a set of keys is asked before its seal");
    uint64_t hash = hash_of(k, db, key);
    size_t page = count_to(k->index, k->n_pages, hash);
    if (page == 0) return 0;
    if (read_page(k, page - 1, err) < 0) return -1;
    size_t n = count_to(k->page, k->page_n, hash);
    if (n == 0 || k->page[n - 1] != hash) return 0;
    *ret = n - 1;
    return 1;
}

int keyset_has(struct keyset *k, uint64_t db, struct span key, struct err *err)
{
    size_t at;
    return find(k, db, key, &at, err);
}

int keyset_remove(struct keyset *k, uint64_t db, struct span key, struct err *err)
{
    size_t at;
    int rc = find(k, db, key, &at, err);
    if (rc != 1) return rc;
    uint64_t hash = k->page[at] | REMOVED, pos = (k->page_at * PAGE_HASHES + at) * HASH_BYTES;
    uint8_t byte = (uint8_t)hash; /* the first one of the hash as it lies there */
    if (k->fd < 0) {
        if (store_patch(&k->sorted, pos, &byte, 1, err) < 0) return -1;
    } else if (file_pwrite(k->fd, &byte, 1, HEAD_BYTES + pos) < 0) {
        return io_error(k, "write", err);
    }
    k->page[at] = hash;
    k->removed++;
    return 1;
}

int keyset_sync(struct keyset *k, struct err *err)
{
    return k->fd >= 0 && fdatasync(k->fd) < 0 ? io_error(k, "sync", err) : 0;
}

/* --- the saved file --- */

static const uint8_t magic[16] = "keyhaul keys\0\0\0\1";

struct head_block {
    uint8_t magic[16];
    uint64_t seed, n, sum, own_sum;
};

/* The sum of all hashes, page by page: of these, and of those before. */
static uint64_t sum_page(const uint64_t *page, size_t n, uint64_t sum)
{
    return XXH3_64bits_withSeed(page, n * HASH_BYTES, sum);
}

struct saver {
    struct file_new file;
    uint64_t page[PAGE_HASHES], n, sum; /* n: written, with those held in `page` */
};

static int save_page(struct saver *s, struct err *err)
{
    size_t n = s->n % PAGE_HASHES ? s->n % PAGE_HASHES : PAGE_HASHES;
    if (s->n == 0) return 0;
    s->sum = sum_page(s->page, n, s->sum);
    return file_new_write(&s->file, s->page, n * HASH_BYTES, HEAD_BYTES + (s->n - n) * HASH_BYTES,
                          err);
}

static int save_all(struct keyset *k, struct saver *s, struct err *err)
{
    for (size_t p = 0; p < k->n_pages; p++) {
        if (read_page(k, p, err) < 0) return -1;
        for (size_t i = 0; i < k->page_n; i++) {
            if (k->page[i] & REMOVED) continue;
            if (s->n && s->n % PAGE_HASHES == 0 && save_page(s, err) < 0) return -1;
            s->page[s->n++ % PAGE_HASHES] = htole64(k->page[i]);
        }
    }
    if (save_page(s, err) < 0) return -1;
    struct head_block h = {.seed = htole64(k->seed), .n = htole64(s->n), .sum = htole64(s->sum)};
    memcpy(h.magic, magic, sizeof(magic));
    h.own_sum = htole64(XXH3_64bits(&h, HEAD_BYTES - sizeof(h.own_sum)));
    return file_new_write(&s->file, &h, sizeof(h), 0, err);
}

int keyset_save(struct keyset *k, const char *path, struct err *err)
{
    struct saver s;
    s.n = s.sum = 0;
    if (!k->sealed) return err_set(err, ERR_INTERNAL, "a set of keys is saved before its seal");
    if (file_new_begin(&s.file, path, 0600, err) < 0) return -1;
    if (save_all(k, &s, err) == 0) return file_new_commit(&s.file, true, err);
    file_new_drop(&s.file);
    return -1;
}

static int damaged(const struct keyset *k, const char *how, struct err *err)
{
    return err_set(err, ERR_FORMAT, "%.300s is damaged (%s)", k->path, how);
}

static int load_head(struct keyset *k, uint64_t size, uint64_t *ret_sum, struct err *err)
{
    struct head_block h;
    if (size < sizeof(h)) return damaged(k, "it is too short", err);
    if (file_pread(k->fd, &h, sizeof(h), 0) < 0) return io_error(k, "read", err);
    if (memcmp(h.magic, magic, sizeof(magic) - 1) != 0)
        return damaged(k, "it does not begin as a set of keys", err);
    if (h.magic[15] != magic[15])
        return err_set(err, ERR_FORMAT, "%.300s is of another version of keyhaul (%u)", k->path,
                       h.magic[15]);
    if (le64toh(h.own_sum) != XXH3_64bits(&h, sizeof(h) - sizeof(h.own_sum)))
        return damaged(k, "the checksum of its head is wrong", err);
    k->seed = le64toh(h.seed);
    k->total = le64toh(h.n);
    *ret_sum = le64toh(h.sum);
    if ((size - sizeof(h)) % HASH_BYTES || k->total != (size - sizeof(h)) / HASH_BYTES)
        return damaged(k, "it is cut off", err);
    return 0;
}

static int load_pages(struct keyset *k, uint64_t sum, struct err *err)
{
    uint64_t pages = (k->total + PAGE_HASHES - 1) / PAGE_HASHES, found = 0;
    uint64_t bare[PAGE_HASHES] = {0}, last = 0;
    for (size_t p = 0; p < pages; p++) {
        if (read_page(k, p, err) < 0) return -1;
        for (size_t i = 0; i < k->page_n; i++) {
            uint64_t hash = k->page[i] & ~(uint64_t)REMOVED;
            if ((p || i) && hash <= last) return damaged(k, "it is not in order", err);
            k->removed += k->page[i] & REMOVED;
            bare[i] = htole64(hash);
            last = hash;
        }
        found = sum_page(bare, k->page_n, found);
        if (add_page(k, le64toh(bare[0]), err) < 0) return -1;
    }
    return found == sum ? 0 : damaged(k, "its checksum is wrong", err);
}

static int load_all(struct keyset *k, struct err *err)
{
    struct stat st;
    uint64_t sum = 0;
    if (fstat(k->fd, &st) < 0) return io_error(k, "read", err);
    if (!S_ISREG(st.st_mode)) return damaged(k, "it is no regular file", err);
    if (load_head(k, (uint64_t)st.st_size, &sum, err) < 0) return -1;
    k->sealed = true;
    return load_pages(k, sum, err);
}

int keyset_load(struct keyset **ret, const char *path, struct err *err)
{
    struct keyset *k;
    if (keyset_new(&k, "", 0, 0, err) < 0) return -1;
    k->path = strdup(path);
    int rc = k->path ? 0 : no_memory(err);
    if (rc == 0) {
        k->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (k->fd >= 0)
            rc = load_all(k, err);
        else
            rc = errno == ENOENT ? 1 : io_error(k, "open", err);
    }
    if (rc == 0)
        *ret = k;
    else
        keyset_free(k);
    return rc;
}
