// SPDX-License-Identifier: BSD-3-Clause
// A byte ring mapped twice: one anonymous file, its pages at two neighbouring places.
#include "io/ring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Both halves over `map`, an address range of our own of 2 * size bytes. */
static int map_twice(uint8_t *map, size_t size, int fd)
{
    for (unsigned half = 0; half < 2; half++) {
        void *p = mmap(map + half * size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                       0);
        if (p == MAP_FAILED) return -1;
    }
    return 0;
}

int ring_init(struct ring *r, size_t size_bytes, struct err *err)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (size_bytes > SIZE_MAX / 4)
        return err_set(err, ERR_LIMIT, "a ring of %zu bytes is too large", size_bytes);
    size_t size = size_bytes ? (size_bytes + page - 1) / page * page : page;
    int fd = memfd_create("keyhaul-ring", MFD_CLOEXEC);
    if (fd < 0) return err_set(err, ERR_NOMEM, "no memory file: %s", strerror(errno));
    void *map = MAP_FAILED;
    /* Address space first, so that the fixed mappings replace nothing but it. */
    if (ftruncate(fd, (off_t)size) == 0)
        map = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED || map_twice(map, size, fd) < 0) {
        int rc = err_set(err, ERR_NOMEM, "no memory for a ring of %zu bytes: %s", size,
                         strerror(errno));
        if (map != MAP_FAILED) munmap(map, 2 * size);
        close(fd);
        return rc;
    }
    close(fd);
    *r = (struct ring){.map = map, .size = size};
    return 0;
}

void ring_release(struct ring *r)
{
    if (r->map) munmap(r->map, 2 * r->size);
    *r = (struct ring){0};
}
