// SPDX-License-Identifier: BSD-3-Clause
// Modules of the source that the target lacks: their keys cannot be held there. Whether there are
// such keys only the data tells, so it is a note; a key met later is named.
#include "check/check.h"

#include <stdio.h>

/* MODULE LIST: an array of arrays name, value, name, value ... NULL: not told (forbidden by rights
 * or a provider, or older than 4.0). */
static int ask_modules(struct client *c, struct reply **ret, struct err *err)
{
    if (client_call(c, ret, err, "MODULE", "LIST", NULL) < 0) return -1;
    if ((*ret)->type == REPLY_ARRAY) return 0;
    reply_free(*ret);
    *ret = NULL;
    return 0;
}

static const struct reply *module_name(const struct reply *module)
{
    for (size_t i = 0; i + 1 < module->n; i += 2)
        if (reply_is(reply_at(module, i), "name") && reply_has_text(reply_at(module, i + 1)))
            return reply_at(module, i + 1);
    return NULL;
}

static bool is_among(const struct reply *list, const struct reply *name)
{
    for (size_t i = 0; list && i < list->n; i++) {
        const struct reply *other = module_name(reply_at(list, i));
        if (other && span_eq(other->str, name->str)) return true;
    }
    return false;
}

/* True: some are missing, and that is noted. */
static bool compare(const struct reply *source, const struct reply *target,
                    struct check_notes *notes)
{
    char names[160] = "", one[48];
    size_t n = 0;
    for (size_t i = 0; i < source->n; i++) {
        const struct reply *name = module_name(reply_at(source, i));
        if (!name || is_among(target, name)) continue;
        n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", n ? ", " : "",
                              reply_words(one, sizeof(one), name));
        if (n >= sizeof(names) - sizeof(one)) break;
    }
    if (n)
        check_note(notes,
                   "the source has modules that the target does not list: %s; keys of their types "
                   "cannot be moved",
                   names);
    return n > 0;
}

struct comparison {
    const struct reply *of_source;
    struct check_notes *notes;
    bool told; /* of one node is enough */
};

static int compare_node(void *ctx, struct client *target, struct err *err)
{
    struct comparison *x = ctx;
    struct reply *of_target = NULL;
    if (x->told) return 0;
    if (ask_modules(target, &of_target, err) < 0) return -1;
    if (of_target) x->told = compare(x->of_source, of_target, x->notes);
    reply_free(of_target);
    return 0;
}

int check_modules(struct client *source, const struct primaries *target, struct check_notes *notes,
                  struct err *err)
{
    struct reply *of_source = NULL;
    if (ask_modules(source, &of_source, err) < 0) return -1;
    struct comparison x = {.of_source = of_source, .notes = notes};
    int rc = of_source && of_source->n ? primaries_each(target, compare_node, &x, err) : 0;
    reply_free(of_source);
    return rc;
}
