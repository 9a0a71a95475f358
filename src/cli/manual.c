// SPDX-License-Identifier: BSD-3-Clause
// The reference in Markdown and the man page: the tables of the help in other clothes.
#include "cli/help.h"

#include <stdio.h>
#include <string.h>

/* An option, or what Markdown would read as its own: set as code. */
static bool is_code(const char *word, size_t n)
{
    bool special = false;
    for (size_t i = 0; i < n; i++)
        special |= strchr("*[\\", word[i]) != NULL;
    return special || strncmp(word, "--", 2) == 0;
}

/* A mark behind the word, that is none of it: not of "..." or "\\,". */
static bool ends_sentence(const char *word, size_t n)
{
    return n > 2 && strchr(":,;.", word[n - 1]) && !strchr("\\.", word[n - 2]);
}

static void put_markdown_words(struct text *t, const char *words)
{
    while (*words) {
        size_t n = strcspn(words, " ");
        bool code = is_code(words, n);
        size_t bare = n;
        while (code && ends_sentence(words, bare))
            bare--;
        text_printf(t, code ? "`%.*s`%.*s" : "%.*s%.*s", (int)bare, words, (int)(n - bare),
                    words + bare);
        words += n;
        if (*words) text_add(t, " ");
        words += *words == ' ';
    }
}

static void put_markdown_option(struct text *t, const struct option_def *def)
{
    text_printf(t, "- **`%s%s%s%s`**: ", help_dashes(def), def->name, help_takes(def) ? " " : "",
                help_takes(def) ? def->arg : "");
    put_markdown_words(t, def->help);
    if (def->choices) text_printf(t, " One of `%s`.", def->choices);
    if (def->fallback) text_printf(t, " Default: `%s`.", def->fallback);
    text_add(t, "\n");
}

void help_markdown(struct text *t, const struct cli_command *command)
{
    const struct option_def *def, *before = NULL;
    text_printf(t, "# keyhaul %s\n\n", command->name);
    text_printf(t, "<!-- Made by `keyhaul help --markdown %s`; do not edit. -->\n\n",
                command->name);
    text_printf(t, "```\n%s\n```\n", command->usage);
    for (const char *p = command->about ? command->about : command->brief; *p;) {
        size_t n = strcspn(p, "\n");
        text_printf(t, "\n%.*s\n", (int)n, p);
        p += n + (p[n] == '\n');
    }
    for (unsigned i = 0; (def = help_option(command, i)); i++) {
        if (!before || before->group != def->group)
            text_printf(t, "\n## %s\n\n", option_group_title(def->group));
        put_markdown_option(t, def);
        before = def;
    }
    text_add(t, "\n## Exit status\n\n");
    for (unsigned i = 0; help_exit_status(i); i++)
        text_printf(t, "- `%u`: %s\n", i, help_exit_status(i));
    for (const char *const *e = command->examples; e && *e; e += 2)
        text_printf(t, "%s\n%s\n\n```sh\n%s\n```\n",
                    e == command->examples ? "\n## Examples\n" : "", e[0], e[1]);
}

/* Words as troff wants them: '-' as a minus that can be copied, '\' itself, and no line that begins
 * with one of the characters of requests. */
static void put_troff(struct text *t, const char *words)
{
    bool fresh = true;
    for (; *words; words++) {
        if (fresh && (*words == '.' || *words == '\'')) text_add(t, "\\&");
        if (*words == '-')
            text_add(t, "\\-");
        else if (*words == '\\')
            text_add(t, "\\e");
        else
            text_printf(t, "%c", *words);
        fresh = *words == '\n';
    }
}

static void put_troff_line(struct text *t, const char *before, const char *words, const char *after)
{
    text_add(t, before);
    put_troff(t, words);
    text_add(t, after);
}

static void put_man_option(struct text *t, const struct option_def *def)
{
    text_add(t, ".TP\n\\fB");
    put_troff_line(t, *help_dashes(def) ? "\\-\\-" : "", def->name, "\\fR");
    if (help_takes(def)) put_troff_line(t, " \\fI", def->arg, "\\fR");
    put_troff_line(t, "\n", def->help, "\n");
    if (def->choices) put_troff_line(t, "One of ", def->choices, ".\n");
    if (def->fallback) put_troff_line(t, "Default: ", def->fallback, ".\n");
}

static void put_man_examples(struct text *t, const struct cli_command *command)
{
    if (!command->examples) return;
    text_add(t, ".SS Examples\n");
    for (const char *const *e = command->examples; *e; e += 2) {
        put_troff_line(t, ".PP\n", e[0], "\n");
        put_troff_line(t, ".PP\n.RS 4\n.nf\n", e[1], "\n.fi\n.RE\n");
    }
}

static void put_man_command(struct text *t, const struct cli_command *command)
{
    const struct option_def *def, *before = NULL;
    put_troff_line(t, ".SH \"KEYHAUL ", command->name, "\"\n");
    put_troff_line(t, ".PP\n\\fB", command->usage, "\\fR\n");
    for (const char *p = command->about ? command->about : command->brief; *p;) {
        char one[1024];
        size_t n = strcspn(p, "\n");
        snprintf(one, sizeof(one), "%.*s", (int)n, p);
        put_troff_line(t, ".PP\n", one, "\n");
        p += n + (p[n] == '\n');
    }
    for (unsigned i = 0; (def = help_option(command, i)); i++) {
        if (!before || before->group != def->group)
            put_troff_line(t, ".SS ", option_group_title(def->group), "\n");
        put_man_option(t, def);
        before = def;
    }
    put_man_examples(t, command);
}

void help_man(struct text *t)
{
    text_add(t, ".\\\" SPDX-License-Identifier: BSD-3-Clause\n"
                ".\\\" Made by `keyhaul help --man`; do not edit.\n"
                ".TH KEYHAUL 1 \"\" \"keyhaul " KEYHAUL_VERSION "\" \"User Commands\"\n"
                ".SH NAME\nkeyhaul \\- move the data of a live Redis or Valkey server to another\n"
                ".SH SYNOPSIS\n");
    for (size_t i = 0; cli_command(i); i++)
        put_troff_line(t, i ? ".br\n\\fB" : "\\fB", cli_command(i)->usage, "\\fR\n");
    for (size_t i = 0; cli_command(i); i++)
        if (cli_command(i)->option_bit) put_man_command(t, cli_command(i));
    text_add(t, ".SH \"EXIT STATUS\"\n");
    for (unsigned i = 0; help_exit_status(i); i++) {
        text_printf(t, ".TP\n.B %u\n", i);
        put_troff_line(t, "", help_exit_status(i), "\n");
    }
}
