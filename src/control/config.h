// SPDX-License-Identifier: BSD-3-Clause
// From the values of options to what the engine, the log and the screen take.
#ifndef KEYHAUL_CONTROL_CONFIG_H
#define KEYHAUL_CONTROL_CONFIG_H

#include "base/log.h"
#include "control/options.h"
#include "engine/task.h"
#include "redis/facts.h"

enum config_output { CONFIG_OUTPUT_HUMAN, CONFIG_OUTPUT_JSON, CONFIG_OUTPUT_JSONL };

struct config {
    struct task_config task;
    struct log_config log; /* `around` is the caller's to set */
    enum config_output output;
    bool quiet;
    const char *metrics_file; /* NULL: none */

    /* inspect; task.file is what to look into, NULL: task.source */
    unsigned top;
    bool has_supposed;
    struct server_facts supposed; /* --for */
};

/* Reads the password files. Texts of *ret point into `values`, which must outlive it. ERR_USAGE. */
KH_MUST int config_from_options(struct config *ret, const struct option_values *values,
                                struct err *err);
/* The option that tells a command's form of output. */
enum option_id config_output_option(enum option_command command);
void config_release(struct config *c); /* wipes passwords; safe on a zeroed config */

#endif
