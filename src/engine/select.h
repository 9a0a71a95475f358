// SPDX-License-Identifier: BSD-3-Clause
// Which databases of the source are moved, and into which of the target. Pure.
#ifndef KEYHAUL_ENGINE_SELECT_H
#define KEYHAUL_ENGINE_SELECT_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define SELECT_DBS_MAX 65536 /* more databases than any server allows in practice */

struct db_select {
    bool all; /* no --db: every database */
    uint8_t bits[SELECT_DBS_MAX / 8];
    /* --db-map pairs in force; a database not named keeps its number */
    struct {
        uint32_t from, to;
    } map[256];
    unsigned n_map;
};

/* "0,3,8-15"; NULL or "all": all. ERR_USAGE. */
KH_MUST int db_select_parse(struct db_select *s, const char *list, struct err *err);
/* "0:5,3:0"; NULL: none. ERR_USAGE, also when two selected databases would meet in one (as far as
 * the map itself tells: --db all with 0:5 makes 0 and 5 meet, unless 5 is mapped away too). */
KH_MUST int db_select_parse_map(struct db_select *s, const char *map, struct err *err);

/* Target database of source database `db`, -1: not selected. */
int64_t db_select_target(const struct db_select *s, uint64_t db);

/* Does some selected database of the source go to target database `to`? */
bool db_select_is_aim(const struct db_select *s, uint32_t to);

/* SWAPDB a b met in the stream and passed on to the target with the mapped numbers: both selected,
 * nothing changes here. Returns: 0 neither selected, 2 both, 1 just one. */
int db_select_swap(const struct db_select *s, uint64_t a, uint64_t b);

#endif
