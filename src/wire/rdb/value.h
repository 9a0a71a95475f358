// SPDX-License-Identifier: BSD-3-Clause
// What rdb.c needs to know about values beyond rdb_value_skip().
#ifndef KEYHAUL_WIRE_RDB_VALUE_H
#define KEYHAUL_WIRE_RDB_VALUE_H

#include "wire/rdb/rdb.h"

/* Whether values of this type (enum rdb_type, or any number) can be passed over. */
bool rdb_type_known(unsigned t);

/* Pass over module data (after its module id) up to its end, letting bytes go. */
KH_MUST int rdb_module_skip(struct reader *r, struct err *err);

#endif
