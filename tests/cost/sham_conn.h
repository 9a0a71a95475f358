// SPDX-License-Identifier: BSD-3-Clause
// Connections without a network, in the place of io/conn.c: what they give and take depends on
// nothing but the bytes, so that the same work costs the same number of instructions.
//
// conn_fd() is always ready. A source gives its bytes as fast as they are taken and closes; a
// target takes everything and answers each command as a server that does what it is told:
// +OK, within MULTI +QUEUED, to EXEC an array of as many, to GET `value`.
#ifndef KEYHAUL_TEST_SHAM_CONN_H
#define KEYHAUL_TEST_SHAM_CONN_H

#include "base/span.h"
#include "io/conn.h"

struct conn *sham_source(struct span bytes);
struct conn *sham_target(const char *value);

#endif
