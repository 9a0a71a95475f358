// SPDX-License-Identifier: BSD-3-Clause
// `keyhaul help`: the texts for a terminal.
#include "cli/help.h"

#include <stdio.h>
#include <string.h>

#define OPTION_COLUMN 30

const struct option_def *help_option(const struct cli_command *command, unsigned i)
{
    for (int id = 0; id < OPTION_COUNT; id++) {
        const struct option_def *def = option_def((enum option_id)id);
        if ((def->commands & command->option_bit) && i-- == 0) return def;
    }
    return NULL;
}

const char *help_exit_status(unsigned status)
{
    static const char *const words[] = {
        "done, or stopped by a signal with nothing lost",
        "failed",
        "wrong usage",
        "refused by a check or by --on-conflict fail; nothing was overwritten",
        "ended, but with unresolved errors",
    };
    return status < sizeof(words) / sizeof(words[0]) ? words[status] : NULL;
}

static void put_exit_statuses(struct text *t)
{
    text_add(t, "\nExit status\n");
    for (unsigned i = 0; help_exit_status(i); i++)
        text_printf(t, "  %u  %s\n", i, help_exit_status(i));
}

void help_overview(struct text *t)
{
    text_wrap(t,
              "keyhaul moves the data of a live Redis or Valkey server to another one while the "
              "application keeps writing, and restores RDB and AOF files into a running server.",
              0, HELP_COLUMNS);
    text_add(t, "\nusage: keyhaul COMMAND [options]\n\nCommands\n");
    for (size_t i = 0; cli_command(i); i++) {
        text_printf(t, "  %s", cli_command(i)->name);
        text_to_column(t, 12);
        text_wrap(t, cli_command(i)->brief, 12, HELP_COLUMNS);
    }
    text_add(t, "\nTry first\n"
                "  keyhaul migrate --source redis://old:6379 --target redis://new:6379\n"
                "  keyhaul restore dump.rdb --target redis://new:6379\n");
    put_exit_statuses(t);
}

/* Its help, then what may be said and what holds when nothing is. */
static void option_words(const struct option_def *def, char *out, size_t size)
{
    snprintf(out, size, "%s%s%s%s%s%s", def->help, def->choices ? " One of " : "",
             def->choices ? def->choices : "",
             def->fallback ? def->choices ? ", default " : " Default " : "",
             def->fallback ? def->fallback : "", def->choices || def->fallback ? "." : "");
}

const char *help_dashes(const struct option_def *def)
{
    return def->kind == OPTION_KIND_ENV || option_is_argument(def) ? "" : "--";
}

bool help_takes(const struct option_def *def)
{
    return def->arg && *help_dashes(def);
}

static void put_option(struct text *t, const struct option_def *def)
{
    char words[1024], name[80];
    snprintf(name, sizeof(name), "  %s%s%s%s", help_dashes(def), def->name,
             help_takes(def) ? " " : "", help_takes(def) ? def->arg : "");
    text_add(t, name);
    if (strlen(name) + 2 > OPTION_COLUMN) text_add(t, "\n");
    text_to_column(t, OPTION_COLUMN);
    option_words(def, words, sizeof(words));
    text_wrap(t, words, OPTION_COLUMN, HELP_COLUMNS);
}

static void put_options(struct text *t, const struct cli_command *command)
{
    const struct option_def *def, *before = NULL;
    for (unsigned i = 0; (def = help_option(command, i)); i++) {
        if (!before || before->group != def->group)
            text_printf(t, "\n%s\n", option_group_title(def->group));
        put_option(t, def);
        before = def;
    }
}

/* Paragraphs, each on lines of its own with an empty one before. */
static void put_paragraphs(struct text *t, const char *words)
{
    while (words && *words) {
        char one[1024];
        size_t n = strcspn(words, "\n");
        snprintf(one, sizeof(one), "%.*s", (int)n, words);
        text_add(t, "\n");
        text_wrap(t, one, 0, HELP_COLUMNS);
        words += n + (words[n] == '\n');
    }
}

static void put_command_line(struct text *t, const char *line)
{
    text_add(t, "    ");
    for (; *line; line++)
        text_printf(t, *line == '\n' ? "%c    " : "%c", *line);
    text_add(t, "\n");
}

void help_command(struct text *t, const struct cli_command *command)
{
    text_printf(t, "usage: %s\n", command->usage);
    put_paragraphs(t, command->about ? command->about : command->brief);
    put_options(t, command);
    put_exit_statuses(t);
    if (!command->examples) return;
    text_add(t, "\nExamples\n");
    for (const char *const *e = command->examples; *e; e += 2) {
        text_printf(t, "  %s\n", e[0]);
        put_command_line(t, e[1]);
    }
}

static const struct cli_command *find_command(const char *name)
{
    for (size_t i = 0; cli_command(i); i++)
        if (strcmp(cli_command(i)->name, name) == 0) return cli_command(i);
    return NULL;
}

/* --markdown COMMAND and --man are how the reference is made; not for people, and not in the help.
 */
static int make_text(struct text *t, int argc, char **argv, struct err *err)
{
    bool markdown = argc > 1 && strcmp(argv[1], "--markdown") == 0;
    if (argc < 2 || (argc == 2 && strcmp(argv[1], "--help") == 0)) {
        help_overview(t);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--man") == 0) {
        help_man(t);
        return 0;
    }
    const struct cli_command *command = argc == 2 + markdown ? find_command(argv[1 + markdown])
                                                             : NULL;
    if (!command)
        return err_set(err, ERR_USAGE,
                       argc == 2 + markdown ? "help: there is no such command"
                                            : "help: name one command only");
    (markdown ? help_markdown : help_command)(t, command);
    return 0;
}

int cli_help(int argc, char **argv)
{
    struct text t;
    struct err err = {0};
    int status;
    text_init(&t, 1 << 20);
    if (make_text(&t, argc, argv, &err) < 0)
        status = cli_usage(NULL, &err);
    else if (text_result(&t, &err) < 0)
        status = cli_fail(&err);
    else
        status = cli_print(t.buf.p, t.buf.n);
    text_release(&t);
    return status;
}
