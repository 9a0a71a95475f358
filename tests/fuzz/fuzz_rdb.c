// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as an RDB: walked twice, letting bytes go and holding them. No crash, and where both
// ways end well they have told the same, and skipping a value ended where decoding it did.
#include "../unit/wire/rdb/walk.h"

#define INPUT_MAX (256u << 10) /* larger ones only cost time */
#define VALUE_MAX (1u << 20)

static int walk(struct walk *w, bool release, const uint8_t *p, size_t n)
{
    struct reader r;
    struct err err = {.code = ERR_NONE};
    reader_init_mem(&r, p, n);
    r.cap = VALUE_MAX;
    if (walk_new(w, VALUE_MAX, &err) < 0) abort();
    w->release = release;
    w->skip_too = !release;
    int rc = walk_file(w, &r, &err);
    walk_free(w);
    if (rc < 0 && (err.code == ERR_NONE || err.code == ERR_INTERNAL)) abort();
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct walk a, b;
    if (n > INPUT_MAX) return 0;
    int rc_a = walk(&a, true, p, n), rc_b = walk(&b, false, p, n);
    if (b.skips_differ) abort();
    if (rc_a == 0 && rc_b == 0 && (a.sum != b.sum || a.keys != b.keys)) abort();
    return 0;
}
