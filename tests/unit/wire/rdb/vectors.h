// SPDX-License-Identifier: BSD-3-Clause
// Values of Redis 8's vector sets, made by hand in tests: as 8.0 writes them, as 8.2 does, and as
// nobody does yet.
#ifndef TESTS_WIRE_RDB_VECTORS_H
#define TESTS_WIRE_RDB_VECTORS_H

#include "make.h"

#define VECTORSET_ID 0xbde72da2bb1eb400 /* as a server tells it: vectorset, version 0 */

enum vector_form { FORM_0, FORM_1, FORM_2 };

struct vector_options {
    enum vector_form form;
    bool projection, attributes;
    size_t vector_n; /* bytes of each vector */
    bool alone;      /* one node without links, as a server checks them; else three */
};

static inline void put_op(struct make *m, unsigned op)
{
    put_len(m, op);
}

static inline void put_number(struct make *m, uint64_t n)
{
    put_op(m, 2);
    put_len(m, n);
}

static inline void put_blob(struct make *m, size_t n)
{
    static uint8_t bytes[70000];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(i * 7);
    put_op(m, 5);
    put_bytes(m, bytes, n);
}

static inline void put_name(struct make *m, const char *s)
{
    put_op(m, 5);
    put_str(m, s);
}

/* A node of `level` with so many links in each layer. */
static inline void put_node(struct make *m, const struct vector_options *o, uint64_t id,
                            unsigned level, unsigned links)
{
    unsigned layers = level + 1;
    put_name(m, id == 7 ? "12" : "an element");
    if (o->attributes) put_name(m, id == 7 ? "" : "{\"year\":1}");
    put_blob(m, o->vector_n);
    put_number(m, 2 + layers * (2 + links + (o->form == FORM_1)) + 1);
    put_number(m, id);
    put_number(m, (uint64_t)o->form << 24 | level);
    for (unsigned i = 0; i < layers; i++) {
        put_number(m, links);
        put_number(m, i ? 16 : 32);
        for (unsigned k = 0; k < links; k++)
            put_number(m, 1000 + k);
        if (o->form == FORM_1) put_number(m, 0x3c4903c000000000);
    }
    put_number(m, 0x3f72dce8404a62c2);
}

static inline void put_vector_set(struct make *m, const struct vector_options *o)
{
    m->n = 0;
    put_len(m, VECTORSET_ID);
    put_number(m, o->vector_n);
    put_number(m, o->alone ? 1 : 3);
    put_number(m, 0x1001);
    put_number(m, (o->projection ? 1U : 0) | (o->attributes ? 2U : 0));
    if (o->projection) {
        put_number(m, 600);
        put_blob(m, 2400);
    }
    if (o->alone) {
        put_node(m, o, 1, 1, 0);
        put_op(m, 0);
        return;
    }
    put_node(m, o, 1, 0, 2);
    put_node(m, o, 7, 2, 1);
    put_node(m, o, UINT64_MAX, 1, 0);
    put_op(m, 0);
}

#endif
