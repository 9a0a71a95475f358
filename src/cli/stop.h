// SPDX-License-Identifier: BSD-3-Clause
// Ending the process that runs a task, as SIGTERM from its own terminal would.
#ifndef KEYHAUL_CLI_STOP_H
#define KEYHAUL_CLI_STOP_H

#include "control/state.h"

/* Ask it to stop, wait until the task is free. 1: it ran and has ended; 0: it did not run.
 * ERR_REFUSED: it cannot be asked from here; ERR_BUSY: still there after timeout_ms. */
KH_MUST int stop_task(const char *state_dir, const char *name, int64_t timeout_ms, struct err *err);

#endif
