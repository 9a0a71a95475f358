// SPDX-License-Identifier: BSD-3-Clause
// Tests of the help texts: nothing of the tables is missing, nothing is wider than the terminal.
#include "cli/help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *end(struct text *t)
{
    text_printf(t, "%c", 0);
    assert_int_equal(t->err.code, ERR_NONE);
    return (const char *)t->buf.p;
}

static void assert_narrow(const char *s)
{
    for (; *s; s += strcspn(s, "\n") + 1)
        assert_true(strcspn(s, "\n") <= HELP_COLUMNS);
}

static void overview_names_commands_and_statuses(void **state)
{
    (void)state;
    struct text t;
    text_init(&t, 1 << 16);
    help_overview(&t);
    const char *s = end(&t);
    assert_narrow(s);
    for (size_t i = 0; cli_command(i); i++)
        assert_non_null(strstr(s, cli_command(i)->brief));
    for (unsigned i = 0; i < 5; i++)
        assert_non_null(strstr(s, help_exit_status(i)));
    assert_null(help_exit_status(5));
    text_release(&t);
}

/* Each option, in each of the texts, under the name that the text gives it. */
static void every_option_is_in(const char *s, const struct cli_command *command,
                               const char *format_option, const char *format_bare)
{
    const struct option_def *def;
    unsigned n = 0, own = 0;
    for (; (def = help_option(command, n)); n++) {
        char want[100];
        bool bare = def->kind == OPTION_KIND_ENV || option_is_argument(def);
        snprintf(want, sizeof(want), "%s%s", bare ? format_bare : format_option, def->name);
        if (!strstr(s, want)) print_error("%s is missing\n", want);
        assert_non_null(strstr(s, want));
    }
    for (int id = 0; id < OPTION_COUNT; id++)
        own += (option_def((enum option_id)id)->commands & command->option_bit) != 0;
    assert_int_equal(n, own);
}

/* The i-th command that has options, NULL beyond the last. */
static const struct cli_command *with_options(size_t i)
{
    for (size_t at = 0; cli_command(at); at++)
        if (cli_command(at)->option_bit && i-- == 0) return cli_command(at);
    return NULL;
}

static void help_names_every_option(void **state)
{
    (void)state;
    assert_non_null(with_options(1));
    for (size_t c = 0; with_options(c); c++) {
        struct text t;
        text_init(&t, 1 << 16);
        help_command(&t, with_options(c));
        const char *s = end(&t);
        assert_narrow(s);
        every_option_is_in(s, with_options(c), "\n  --", "\n  ");
        for (unsigned i = 0; i < 5; i++)
            assert_non_null(strstr(s, help_exit_status(i)));
        text_release(&t);
    }
}

static void reference_names_every_option(void **state)
{
    (void)state;
    for (size_t c = 0; with_options(c); c++) {
        struct text t;
        char made[80];
        text_init(&t, 1 << 16);
        help_markdown(&t, with_options(c));
        const char *s = end(&t);
        every_option_is_in(s, with_options(c), "\n- **`--", "\n- **`");
        snprintf(made, sizeof(made), "`keyhaul help --markdown %s`", with_options(c)->name);
        assert_non_null(strstr(s, made));
        text_release(&t);
    }
}

static void man_page_keeps_its_minuses(void **state)
{
    (void)state;
    struct text t;
    text_init(&t, 1 << 16);
    help_man(&t);
    const char *s = end(&t);
    assert_non_null(strstr(s, "\n\\fB\\-\\-on\\-conflict\\fR \\fIWHAT\\fR\n"));
    assert_non_null(strstr(s, "\n\\fBKEYHAUL_SOURCE_PASSWORD\\fR\n"));
    assert_non_null(strstr(s, "\n.SH \"EXIT STATUS\"\n"));
    assert_non_null(strstr(s, "\n\\fBFILE\\fR\n"));
    /* every line that begins with a dot is a request that we meant */
    static const char *const requests[] = {".\\\"", ".TH ",  ".SH ", ".SS ",  ".TP\n", ".PP\n",
                                           ".B ",   ".br\n", ".RS ", ".RE\n", ".nf\n", ".fi\n"};
    for (const char *line = s; *line; line += strcspn(line, "\n") + 1) {
        bool known = *line != '.';
        for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
            known |= strncmp(line, requests[i], strlen(requests[i])) == 0;
        assert_true(known);
        assert_int_not_equal(*line, '\'');
    }
    text_release(&t);
}

static void groups_stand_together(void **state)
{
    (void)state;
    for (size_t c = 0; with_options(c); c++) {
        const struct option_def *def, *before = NULL;
        for (unsigned i = 0; (def = help_option(with_options(c), i)); i++) {
            if (before) assert_true(def->group >= before->group);
            before = def;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overview_names_commands_and_statuses),
        cmocka_unit_test(help_names_every_option),
        cmocka_unit_test(reference_names_every_option),
        cmocka_unit_test(man_page_keeps_its_minuses),
        cmocka_unit_test(groups_stand_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
