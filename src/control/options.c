// SPDX-License-Identifier: BSD-3-Clause
// Parsing of command lines by the option table.
#include "control/options.h"
#include "control/nearest.h"

#include <ctype.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const struct option_def option_defs[OPTION_COUNT] = {
#define X(id_, name_, arg_, kind_, choices_, fallback_, group_, commands_, help_)                  \
    [OPTION_##id_] = {.name = name_,                                                               \
                      .arg = arg_,                                                                 \
                      .choices = choices_,                                                         \
                      .fallback = fallback_,                                                       \
                      .help = help_,                                                               \
                      .kind = OPTION_KIND_##kind_,                                                 \
                      .group = OPTION_GROUP_##group_,                                              \
                      .commands = OPTION_COMMAND_##commands_},
#include "control/option_table.def"
#undef X
};

const struct option_def *option_def(enum option_id id)
{
    return &option_defs[id];
}

bool option_is_argument(const struct option_def *def)
{
    return def->kind == OPTION_KIND_ARG || def->kind == OPTION_KIND_ARG_MAYBE;
}

const char *option_group_title(enum option_group group)
{
    static const char *const title[OPTION_GROUPS] = {
        [OPTION_GROUP_SERVERS] = "Servers",
        [OPTION_GROUP_TASK] = "Task",
        [OPTION_GROUP_DATA] = "What is moved",
        [OPTION_GROUP_PASSWORDS] = "Passwords",
        [OPTION_GROUP_TLS] = "TLS",
        [OPTION_GROUP_LIMITS] = "Limits",
        [OPTION_GROUP_OUTPUT] = "Output",
        [OPTION_GROUP_ENVIRONMENT] = "Environment",
    };
    return title[group];
}

/* Digits at the start of text, their end at *ret_unit. */
static bool read_number(const char *text, uint64_t *ret, const char **ret_unit)
{
    uint64_t v = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return false;
    *ret = v;
    *ret_unit = p;
    return p > text;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static bool read_with_unit(const char *text, const struct unit *units, uint64_t max, uint64_t *ret)
{
    uint64_t v;
    const char *unit;
    if (!read_number(text, &v, &unit)) return false;
    for (; units->name; units++)
        if (strcasecmp(unit, units->name) == 0) {
            if (__builtin_mul_overflow(v, units->factor, &v) || v > max) return false;
            *ret = v;
            return true;
        }
    return false;
}

bool option_read_duration(const char *text, int64_t *ret_ms)
{
    static const struct unit units[] = {{"ms", 1},       {"s", 1000},      {"m", 60000},
                                        {"h", 3600000u}, {"d", 86400000u}, {NULL, 0}};
    uint64_t v;
    if (!read_with_unit(text, units, INT64_MAX, &v)) return false;
    *ret_ms = (int64_t)v;
    return true;
}

bool option_read_size(const char *text, uint64_t *ret_bytes)
{
    static const struct unit units[] = {
        {"", 1},
        {"K", 1000},
        {"M", 1000000},
        {"G", 1000000000},
        {"T", 1000000000000},
        {"Ki", 1024},
        {"Mi", 1024 * 1024},
        {"Gi", 1024 * 1024 * 1024},
        {"Ti", (uint64_t)1 << 40},
        {NULL, 0},
    };
    return read_with_unit(text, units, INT64_MAX, ret_bytes);
}

/* Index of text in "a|b|c", -1: none of them. */
static int choice_index(const char *choices, const char *text)
{
    size_t n = strlen(text);
    for (int i = 0;; i++) {
        size_t len = strcspn(choices, "|");
        if (len == n && memcmp(choices, text, n) == 0) return i;
        if (!choices[len]) return -1;
        choices += len + 1;
    }
}

/* It would take the comma behind it, where the list goes on. */
static bool ends_in_escape(const char *text)
{
    size_t n = strlen(text), escapes = 0;
    while (escapes < n && text[n - 1 - escapes] == '\\')
        escapes++;
    return escapes % 2;
}

static int check_value(const struct option_def *def, const char *text, struct err *err)
{
    int64_t ms;
    uint64_t bytes;
    if (!*text) return err_set(err, ERR_USAGE, "--%s: needs a value (%s)", def->name, def->arg);
    switch (def->kind) {
    case OPTION_KIND_CHOICE:
        if (choice_index(def->choices, text) >= 0) return 0;
        return err_set(err, ERR_USAGE, "--%s: must be one of %s", def->name, def->choices);
    case OPTION_KIND_DURATION:
        if (option_read_duration(text, &ms)) return 0;
        return err_set(err, ERR_USAGE, "--%s: must be a number with its unit: 500ms, 10s, 5m, 12h",
                       def->name);
    case OPTION_KIND_SIZE:
        if (option_read_size(text, &bytes)) return 0;
        return err_set(err, ERR_USAGE, "--%s: must be a size: 500M, 10G, 10Gi", def->name);
    case OPTION_KIND_LIST:
        if (!ends_in_escape(text)) return 0;
        return err_set(err, ERR_USAGE, "--%s: a backslash at the end stands for nothing; write two",
                       def->name);
    case OPTION_KIND_FLAG:
    case OPTION_KIND_TEXT:
    case OPTION_KIND_FILE:
    case OPTION_KIND_URI:
    case OPTION_KIND_ARG:
    case OPTION_KIND_ARG_MAYBE:
    case OPTION_KIND_ENV: break;
    }
    return 0;
}

int option_check(enum option_id id, const char *text, struct err *err)
{
    const struct option_def *def = &option_defs[id];
    if (def->kind != OPTION_KIND_FLAG) return check_value(def, text, err);
    return *text ? err_set(err, ERR_USAGE, "--%s: takes no value", def->name) : 0;
}

/* The value of sentinel-password= becomes `with`, which is no longer than it. */
static void replace_query_password(char *uri, const char *with)
{
    static const char word[] = "sentinel-password=";
    for (char *at = uri; (at = strstr(at, word)) != NULL;) {
        at += sizeof(word) - 1;
        size_t n = strcspn(at, "&"), kept = strnlen(with, n), rest = strlen(at + n);
        memcpy(at, with, kept);
        memmove(at + kept, at + n, rest + 1);
        explicit_bzero(at + kept + rest + 1, n - kept);
    }
}

void option_wipe_uri(char *uri)
{
    replace_query_password(uri, "***");
    char *at = strrchr(uri, '@');
    if (!at) return;
    char *scheme = strstr(uri, "://");
    char *from = scheme && scheme < at ? scheme + 3 : uri;
    size_t n = strlen(uri), secret = (size_t)(at - from), kept = secret < 3 ? secret : 3;
    memset(from, '*', secret);
    /* Close up, so that not even the length is told. */
    memmove(from + kept, at, strlen(at) + 1);
    explicit_bzero(uri + n - (secret - kept), secret - kept);
}

void option_strip_password(char *uri)
{
    replace_query_password(uri, "");
    char *scheme = strstr(uri, "://");
    char *from = scheme ? scheme + 3 : uri;
    size_t login = strcspn(from, "/?");
    char *at = memrchr(from, '@', login);
    char *colon = at ? memchr(from, ':', (size_t)(at - from)) : NULL;
    if (!colon) return;
    if (colon == from) at++; /* no user either */
    size_t rest = strlen(at) + 1;
    memmove(colon, at, rest);
    explicit_bzero(colon + rest, (size_t)(at - colon));
}

static int join(char **list, const char *more, struct err *err)
{
    size_t n = strlen(*list), add = strlen(more) + 1;
    char *grown = realloc(*list, n + 1 + add);
    if (!grown) return err_set(err, ERR_NOMEM, "out of memory");
    grown[n] = ',';
    memcpy(grown + n + 1, more, add);
    *list = grown;
    return 0;
}

static int keep(struct option_values *v, enum option_id id, const char *text, struct err *err)
{
    if (v->text[id] && option_defs[id].kind == OPTION_KIND_LIST)
        return join(&v->text[id], text, err);
    if (v->text[id]) return err_set(err, ERR_USAGE, "--%s: given twice", option_defs[id].name);
    v->text[id] = strdup(text);
    if (!v->text[id]) return err_set(err, ERR_NOMEM, "out of memory");
    return 0;
}

/* A name may be repeated to the user only when it looks like one; else it may be anything,
 * "--redis://:password@host" among it. Returns its length without "=value", 0: better not. */
static size_t name_length(const char *name)
{
    size_t n = strcspn(name, "=");
    if (n > 40) return 0;
    for (size_t i = 0; i < n; i++)
        if (!islower((unsigned char)name[i]) && name[i] != '-') return 0;
    return n;
}

static bool is_option(const struct option_def *def)
{
    return def->kind != OPTION_KIND_ENV && !option_is_argument(def);
}

static int unknown_option(const char *arg, enum option_command command, struct err *err)
{
    char name[64] = "";
    bool one_dash = arg[1] != '-';
    const char *text = arg + (one_dash ? 1 : 2);
    memcpy(name, text, name_length(text));
    if (!*name && one_dash)
        return err_set(err, ERR_USAGE, "-%c...: unknown option",
                       isalpha((unsigned char)arg[1]) ? arg[1] : '?');
    struct nearest near;
    nearest_init(&near, name);
    for (int id = 0; id < OPTION_COUNT; id++)
        if ((option_defs[id].commands & command) && is_option(&option_defs[id]))
            nearest_try(&near, option_defs[id].name);
    /* "-p..." is how other programs take passwords */
    if (one_dash && near.distance) name[1] = 0;
    if (!*name) return err_set(err, ERR_USAGE, "unknown option");
    return err_set(err, ERR_USAGE,
                   near.best ? "%s%s: unknown option, did you mean --%s?" : "%s%s: unknown option",
                   one_dash ? "-" : "--", name, near.best);
}

static int refuse(int got, const char *arg, enum option_command command, struct err *err)
{
    int id = optopt - 256;
    bool known = id >= 0 && id < OPTION_COUNT;
    if (got == ':' && known)
        return err_set(err, ERR_USAGE, "--%s: needs a value (%s)", option_defs[id].name,
                       option_defs[id].arg);
    if (got == '?' && known)
        return err_set(err, ERR_USAGE, "--%s: takes no value", option_defs[id].name);
    return unknown_option(arg, command, err);
}

static int take(struct option_values *v, enum option_id id, const char *arg, struct err *err)
{
    const struct option_def *def = &option_defs[id];
    if (def->kind == OPTION_KIND_FLAG) return keep(v, id, "", err);
    /* "--db --source x": the value was forgotten. Who means it writes --db=--source. */
    if (!strchr(arg, '=') && strncmp(optarg, "--", 2) == 0)
        return err_set(err, ERR_USAGE, "--%s: needs a value (%s)", def->name, def->arg);
    int rc = check_value(def, optarg, err);
    if (rc == 0) rc = keep(v, id, optarg, err);
    if (def->kind == OPTION_KIND_URI) option_wipe_uri(optarg);
    return rc;
}

/* getopt takes "--sour" for --source as long as no other begins so: a contract that would break
 * with the next option. */
static bool abbreviated(const char *arg, const char *name)
{
    return arg[1] != '-' || strcspn(arg + 2, "=") != strlen(name);
}

static void fill_getopt(struct option *long_options, enum option_command command)
{
    size_t n = 0;
    for (int id = 0; id < OPTION_COUNT; id++) {
        const struct option_def *def = &option_defs[id];
        if (!(def->commands & command) || !is_option(def)) continue;
        long_options[n++] = (struct option){
            .name = def->name,
            .has_arg = def->arg ? required_argument : no_argument,
            .val = 256 + id,
        };
    }
    long_options[n] = (struct option){0};
}

/* The argument that the command takes, OPTION_COUNT: none. */
static enum option_id find_argument(enum option_command command)
{
    int id = 0;
    while (id < OPTION_COUNT &&
           (!option_is_argument(&option_defs[id]) || !(option_defs[id].commands & command)))
        id++;
    return (enum option_id)id;
}

/* How many arguments stand before the options: the one that the command takes may. */
static int early_argument(enum option_command command, int argc, char **argv)
{
    if (find_argument(command) == OPTION_COUNT || argc < 2) return 0;
    return argv[1][0] != '-' || !argv[1][1] ? 1 : 0;
}

/* What is no option: the one argument the command takes, or nothing. `early`: it is argv[0]. */
static int take_argument(struct option_values *v, enum option_command command, int early, int argc,
                         char **argv, struct err *err)
{
    enum option_id id = find_argument(command);
    int at = early ? 0 : optind, beyond = early ? optind : optind + 1;
    if (at == argc && (id == OPTION_COUNT || option_defs[id].kind == OPTION_KIND_ARG_MAYBE))
        return 0;
    if (id == OPTION_COUNT)
        return err_set(err, ERR_USAGE, "argument %d is no option; %s", optind,
                       command == OPTION_COMMAND_BACKUP
                           ? "the server is named by --source, the file by --output"
                           : "servers are named by --source and --target");
    const struct option_def *def = &option_defs[id];
    if (at == argc)
        return err_set(err, ERR_USAGE, "%s: missing, say %s", def->name,
                       def->group == OPTION_GROUP_TASK ? "which task (keyhaul status names them)"
                                                       : "what to read");
    if (beyond < argc)
        return err_set(err, ERR_USAGE, "%s: takes just one, argument %d is too many", def->name,
                       beyond + early);
    if (!*argv[at]) return err_set(err, ERR_USAGE, "%s: must not be empty", def->name);
    int rc = keep(v, id, argv[at], err);
    if (strstr(argv[at], "://")) option_wipe_uri(argv[at]);
    return rc;
}

static int parse_args(struct option_values *v, enum option_command command, int argc, char **argv,
                      struct err *err)
{
    struct option long_options[OPTION_COUNT + 1];
    fill_getopt(long_options, command);
    optind = 0;
    opterr = 0;
    int early = early_argument(command, argc, argv);
    argc -= early;
    argv += early;
    for (int at = 1;; at = optind) {
        int got = getopt_long(argc, argv, "+:h", long_options, NULL);
        if (got == -1) break;
        if (got == 'h')
            got = 256 + OPTION_HELP;
        else if (got == '?' || got == ':')
            return refuse(got, argv[at], command, err);
        else if (abbreviated(argv[at], option_defs[got - 256].name))
            return unknown_option(argv[at], command, err);
        if (take(v, (enum option_id)(got - 256), argv[at], err) < 0) return -1;
        if (got - 256 == OPTION_HELP) return 0;
    }
    return take_argument(v, command, early, argc, argv, err);
}

static int take_environment(struct option_values *v, enum option_command command, struct err *err)
{
    for (int id = 0; id < OPTION_COUNT; id++) {
        const struct option_def *def = &option_defs[id];
        if (def->kind != OPTION_KIND_ENV || !(def->commands & command)) continue;
        const char *text = getenv(def->name);
        if (text && *text && keep(v, (enum option_id)id, text, err) < 0) return -1;
    }
    return 0;
}

int options_parse(struct option_values *ret, enum option_command command, int argc, char **argv,
                  struct err *err)
{
    struct option_values v = {.command = command};
    if (parse_args(&v, command, argc, argv, err) < 0 || take_environment(&v, command, err) < 0) {
        options_release(&v);
        return -1;
    }
    *ret = v;
    return 0;
}

void options_release(struct option_values *v)
{
    for (int id = 0; id < OPTION_COUNT; id++) {
        if (v->text[id]) explicit_bzero(v->text[id], strlen(v->text[id]));
        free(v->text[id]);
        v->text[id] = NULL;
    }
}

bool options_given(const struct option_values *v, enum option_id id)
{
    return v->text[id];
}

const char *options_text(const struct option_values *v, enum option_id id)
{
    return v->text[id] ? v->text[id] : option_defs[id].fallback;
}

unsigned options_choice(const struct option_values *v, enum option_id id)
{
    int i = choice_index(option_defs[id].choices, options_text(v, id));
    return i < 0 ? 0 : (unsigned)i;
}

int64_t options_duration_ms(const struct option_values *v, enum option_id id)
{
    int64_t ms = 0;
    return option_read_duration(options_text(v, id), &ms) ? ms : 0;
}

uint64_t options_size(const struct option_values *v, enum option_id id)
{
    uint64_t bytes = 0;
    return option_read_size(options_text(v, id), &bytes) ? bytes : 0;
}
