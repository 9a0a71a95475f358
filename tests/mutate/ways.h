// SPDX-License-Identifier: BSD-3-Clause
// Every way in which the program decodes what it did not write itself, and what must hold of each
// whatever the bytes are.
#ifndef TESTS_MUTATE_WAYS_H
#define TESTS_MUTATE_WAYS_H

#include "mutant.h"

#include "../unit/wire/rdb/walk.h"
#include "engine/digest.h"

struct ways {
    struct digest *digest;
    struct walk walk;
    struct rdb_elems *elems;
    struct buf turned;
};

void ways_init(struct ways *w);
void ways_release(struct ways *w);

enum ways_result {
    WAYS_VALUE, /* it was decoded */
    WAYS_ERROR, /* it was refused, with words */
    WAYS_WRONG, /* neither: *ret_words tells */
};
enum ways_result ways_decode(struct ways *w, const struct mutant *m, const char **ret_words);

#endif
