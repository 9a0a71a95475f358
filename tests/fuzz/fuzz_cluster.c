// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target for what the nodes of a cluster tell of themselves: CLUSTER NODES, redirections. Byte
// 0 chooses which; the rest is the text.
#include "redis/cluster_map.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) abort();
}

/* Whatever was read hangs together. */
static void check_map(const struct cluster_map *m)
{
    unsigned owned = 0, of_nodes = 0;
    check(m->n > 0 && m->n <= CLUSTER_NODES_MAX);
    check(m->myself == CLUSTER_NO_NODE || (m->myself < m->n && m->node[m->myself].myself));
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        check(m->owner[i] == CLUSTER_NO_NODE || m->owner[i] < m->n);
        check(m->other[i] == CLUSTER_NO_NODE || m->other[i] < m->n);
        check(m->moving[i] <= CLUSTER_IMPORTING);
        owned += m->owner[i] != CLUSTER_NO_NODE;
    }
    for (uint16_t i = 0; i < m->n; i++) {
        const struct cluster_node *n = &m->node[i];
        of_nodes += n->slots;
        check(n->epoch <= m->epoch);
        check(cluster_map_by_id(m, n->id) == i);
        check(strlen(n->host) < sizeof(n->host) && strlen(n->hostname) < sizeof(n->hostname));
    }
    check(owned == m->owned && of_nodes == owned);
    check(cluster_map_same(m, m));
}

static void read_redirect(const uint8_t *p, size_t n)
{
    char *line = malloc(n + 1);
    struct cluster_redirect r;
    memcpy(line, p, n);
    line[n] = 0;
    if (cluster_redirect_parse(line, &r) == 0) check(r.slot < SLOT_COUNT);
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    if (data[0] & 1) {
        read_redirect(data + 1, size - 1);
        return 0;
    }
    uint8_t *block = malloc(size); /* of its own, so that a step beyond it is seen */
    struct cluster_map *m;
    struct err err;
    memcpy(block, data + 1, size - 1);
    if (cluster_map_parse(&m, span_of(block, size - 1), data[0] & 2 ? "dialled" : NULL, &err) ==
        0) {
        check_map(m);
        cluster_map_free(m);
    } else {
        check(err.code == ERR_PROTO || err.code == ERR_LIMIT);
    }
    free(block);
    return 0;
}
