// SPDX-License-Identifier: BSD-3-Clause
// Help texts, the reference and the man page, all made of the tables of options and commands.
#ifndef KEYHAUL_CLI_HELP_H
#define KEYHAUL_CLI_HELP_H

#include "cli/cli.h"
#include "control/text.h"

#define HELP_COLUMNS 80

void help_overview(struct text *t);
void help_command(struct text *t, const struct cli_command *command);
void help_markdown(struct text *t, const struct cli_command *command);
void help_man(struct text *t); /* one page for all commands */

/* The i-th option or environment variable of a command, in the order of the table, which is that of
 * the groups; NULL beyond the last. */
const struct option_def *help_option(const struct cli_command *command, unsigned i);

/* "--" before the name of an option, "" before that of what is none. */
const char *help_dashes(const struct option_def *def);
bool help_takes(const struct option_def *def); /* a value, to be named behind it */
/* The i-th line of the list of exit statuses, NULL beyond the last. */
const char *help_exit_status(unsigned status);

#endif
