// SPDX-License-Identifier: BSD-3-Clause
// Which keys are taken.
#include "engine/key_select.h"

#include "base/glob.h"

#include <stdlib.h>

/* The pattern at the front of the list, up to a comma that is not escaped. */
static size_t pattern_length(const char *list)
{
    size_t n = 0;
    while (list[n] && list[n] != ',')
        n += list[n] == '\\' && list[n + 1] ? 2 : 1;
    return n;
}

static int parse_list(struct span **ret, size_t *ret_n, const char *list, const char *option,
                      struct err *err)
{
    size_t most = 1, n = 0;
    if (!list) return 0;
    for (const char *p = list; *p; p++)
        most += *p == ',';
    struct span *made = calloc(most, sizeof(*made));
    if (!made) return err_set(err, ERR_NOMEM, "out of memory");
    for (;; list++) {
        made[n] = span_of(list, pattern_length(list));
        list += made[n].n;
        if (made[n++].n == 0) {
            free(made);
            return err_set(err, ERR_USAGE, "%s: a pattern is empty; they are like user:*,session:*",
                           option);
        }
        if (!*list) break;
    }
    *ret = made;
    *ret_n = n;
    return 0;
}

int key_select_parse(struct key_select *ret, const char *keep, const char *skip, struct err *err)
{
    struct key_select s = {0};
    if (parse_list(&s.keep, &s.n_keep, keep, "--keys", err) < 0 ||
        parse_list(&s.skip, &s.n_skip, skip, "--skip-keys", err) < 0) {
        key_select_release(&s);
        return -1;
    }
    *ret = s;
    return 0;
}

void key_select_release(struct key_select *s)
{
    free(s->keep);
    free(s->skip);
    *s = (struct key_select){0};
}

static bool any_matches(const struct span *pattern, size_t n, struct span key)
{
    for (size_t i = 0; i < n; i++)
        if (glob_match(pattern[i], key)) return true;
    return false;
}

bool key_select_match(const struct key_select *s, struct span key)
{
    return (s->n_keep == 0 || any_matches(s->keep, s->n_keep, key)) &&
           !any_matches(s->skip, s->n_skip, key);
}
