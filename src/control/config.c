// SPDX-License-Identifier: BSD-3-Clause
// Options to configuration: what depends on more than one option is decided here.
#include "control/config.h"
#include "base/num.h"
#include "engine/inspect.h"
#include "io/file.h"
#include "redis/suppose.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The options of one side, so that both are read by the same code. */
struct side_options {
    enum option_id uri, password_file, password_env, address_map;
    enum option_id ca, cert, key, server_name, insecure;
};

static const struct side_options source_options = {
    OPTION_SOURCE,
    OPTION_SOURCE_PASSWORD_FILE,
    OPTION_ENV_SOURCE_PASSWORD,
    OPTION_SOURCE_ADDRESS_MAP,
    OPTION_SOURCE_TLS_CA,
    OPTION_SOURCE_TLS_CERT,
    OPTION_SOURCE_TLS_KEY,
    OPTION_SOURCE_TLS_SERVER_NAME,
    OPTION_SOURCE_INSECURE_SKIP_VERIFY,
};
static const struct side_options target_options = {
    OPTION_TARGET,
    OPTION_TARGET_PASSWORD_FILE,
    OPTION_ENV_TARGET_PASSWORD,
    OPTION_TARGET_ADDRESS_MAP,
    OPTION_TARGET_TLS_CA,
    OPTION_TARGET_TLS_CERT,
    OPTION_TARGET_TLS_KEY,
    OPTION_TARGET_TLS_SERVER_NAME,
    OPTION_TARGET_INSECURE_SKIP_VERIFY,
};

/* The one side of an inspection is its argument. */
static const struct side_options input_options = {
    OPTION_INPUT,
    OPTION_SOURCE_PASSWORD_FILE,
    OPTION_ENV_SOURCE_PASSWORD,
    OPTION_SOURCE_ADDRESS_MAP,
    OPTION_SOURCE_TLS_CA,
    OPTION_SOURCE_TLS_CERT,
    OPTION_SOURCE_TLS_KEY,
    OPTION_SOURCE_TLS_SERVER_NAME,
    OPTION_SOURCE_INSECURE_SKIP_VERIFY,
};

static bool takes(const struct option_values *v, enum option_id id)
{
    return option_def(id)->commands & v->command;
}

static const char *either(const struct option_values *v, enum option_id one, enum option_id both)
{
    return options_given(v, one) ? options_text(v, one) : options_text(v, both);
}

static int read_uri(struct uri *ret, const struct option_values *v, enum option_id id,
                    struct err *err)
{
    const char *name = option_def(id)->name;
    if (!options_given(v, id))
        return err_set(err, ERR_USAGE, "--%s: missing, say which server (redis://host:port)", name);
    const char *dashes = option_def(id)->kind == OPTION_KIND_ARG ? "" : "--";
    return uri_parse(ret, options_text(v, id), err) < 0 ? err_wrap(err, "%s%s", dashes, name) : 0;
}

static int read_tls(struct task_side *side, const struct option_values *v,
                    const struct side_options *o, struct err *err)
{
    const enum option_id own[] = {o->ca, o->cert, o->key, o->server_name, o->insecure};
    /* Who asks for TLS in part and writes redis:// would go unencrypted without knowing. */
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]) && !side->uri.tls; i++)
        if (options_given(v, own[i]))
            return err_set(err, ERR_USAGE, "--%s: needs --%s to be a rediss:// URI",
                           option_def(own[i])->name, option_def(o->uri)->name);
    side->tls = (struct conn_tls){
        .ca_file = either(v, o->ca, OPTION_TLS_CA),
        .cert_file = either(v, o->cert, OPTION_TLS_CERT),
        .key_file = either(v, o->key, OPTION_TLS_KEY),
        .server_name = either(v, o->server_name, OPTION_TLS_SERVER_NAME),
        .insecure_skip_verify = options_given(v, o->insecure) ||
                                options_given(v, OPTION_INSECURE_SKIP_VERIFY),
    };
    if (!side->tls.cert_file == !side->tls.key_file) return 0;
    bool cert = side->tls.cert_file;
    bool shared = options_given(v, cert ? OPTION_TLS_CERT : OPTION_TLS_KEY);
    enum option_id has = shared ? (cert ? OPTION_TLS_CERT : OPTION_TLS_KEY)
                                : (cert ? o->cert : o->key);
    return err_set(err, ERR_USAGE, "--%s: a certificate and its key go together, %s is missing",
                   option_def(has)->name, cert ? "the key" : "the certificate");
}

static int check_shared_tls(const struct task_config *t, const struct option_values *v,
                            struct err *err)
{
    static const enum option_id shared[] = {OPTION_TLS_CA, OPTION_TLS_CERT, OPTION_TLS_KEY,
                                            OPTION_TLS_SERVER_NAME, OPTION_INSECURE_SKIP_VERIFY};
    for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++)
        if (options_given(v, shared[i]) && !t->source.uri.tls && !t->target.uri.tls)
            return err_set(err, ERR_USAGE, "--%s: neither side is a rediss:// URI",
                           option_def(shared[i])->name);
    return 0;
}

/* Who mistakes --source-password-file for --source-password must not find the password printed in
 * the place of a path. */
static void hide(struct err *err, const char *path)
{
    char shown[301], rest[sizeof(err->msg)];
    snprintf(shown, sizeof(shown), "%s", path); /* no more than file_read_secret() repeats */
    char *at = err ? strstr(err->msg, shown) : NULL;
    if (!at) return;
    snprintf(rest, sizeof(rest), "%s", at + strlen(shown));
    snprintf(at, sizeof(err->msg) - (size_t)(at - err->msg), "the file%s", rest);
}

static int read_password(char **ret, const struct option_values *v, enum option_id file,
                         enum option_id env, struct err *err)
{
    if (options_given(v, file)) {
        const char *path = options_text(v, file);
        struct buf secret;
        buf_init(&secret, FILE_SECRET_MAX_BYTES + 1);
        if (file_read_secret(path, &secret, err) == 0) {
            *ret = (char *)secret.p;
            return 0;
        }
        buf_release(&secret);
        hide(err, path);
        return err_wrap(err, "--%s", option_def(file)->name);
    }
    if (!options_given(v, env)) return 0;
    *ret = strdup(options_text(v, env));
    return *ret ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

static int read_addresses(struct task_side *side, const struct option_values *v, enum option_id id,
                          struct err *err)
{
    if (!options_given(v, id)) return 0;
    if (cluster_addresses_parse(&side->addresses, options_text(v, id), err) == 0) return 0;
    return err_wrap(err, "--%s", option_def(id)->name);
}

static int read_side(struct task_side *side, const struct option_values *v,
                     const struct side_options *o, struct err *err)
{
    if (read_uri(&side->uri, v, o->uri, err) < 0) return -1;
    if (read_tls(side, v, o, err) < 0) return -1;
    if (read_password(&side->password, v, o->password_file, o->password_env, err) < 0) return -1;
    if (read_addresses(side, v, o->address_map, err) < 0) return -1;
    if (!side->uri.sentinel) return 0;
    return read_password(&side->sentinel_password, v, OPTION_SENTINEL_PASSWORD_FILE,
                         OPTION_ENV_SENTINEL_PASSWORD, err);
}

static int check_sentinels(const struct task_config *t, const struct option_values *v,
                           struct err *err)
{
    bool none = !t->source.uri.sentinel && !t->target.uri.sentinel;
    if (!none || !options_given(v, OPTION_SENTINEL_PASSWORD_FILE)) return 0;
    return err_set(err, ERR_USAGE, "--%s: no side is a redis+sentinel:// URI",
                   option_def(OPTION_SENTINEL_PASSWORD_FILE)->name);
}

/* The one selected database, -1: none or several. */
static int64_t only_database(const struct db_select *s)
{
    int64_t found = -1;
    if (s->all) return -1;
    for (uint32_t db = 0; db < SELECT_DBS_MAX; db++) {
        if (!(s->bits[db / 8] & (1 << db % 8))) continue;
        if (found >= 0) return -1;
        found = db;
    }
    return found;
}

static int map_by_target_uri(struct task_config *t, const struct option_values *v, struct err *err)
{
    char map[32];
    int64_t from = only_database(&t->select);
    if (options_given(v, OPTION_DB_MAP))
        return err_set(err, ERR_USAGE, "--target: leave out its /%d, --db-map tells already",
                       t->target.uri.db);
    if (from < 0)
        return err_set(err, ERR_USAGE,
                       "--target: its /%d needs a single database to be selected (by --db); "
                       "for several use --db-map",
                       t->target.uri.db);
    snprintf(map, sizeof(map), "%lld:%d", (long long)from, t->target.uri.db);
    return db_select_parse_map(&t->select, map, err) < 0 ? err_wrap(err, "--target") : 0;
}

/* What is no list at all is not repeated in words: it may be a URI that went to the wrong option.
 */
static int check_letters(const struct option_values *v, enum option_id id, const char *letters,
                         const char *like, struct err *err)
{
    const char *text = options_text(v, id);
    if (!text || text[strspn(text, letters)] == 0) return 0;
    return err_set(err, ERR_USAGE, "--%s: must be like %s", option_def(id)->name, like);
}

/* db_select_parse() and its like name the option themselves. */
static int name_option(struct err *err, const char *option)
{
    if (err && strncmp(err->msg, option, strlen(option)) != 0) err_wrap(err, "%s", option);
    return -1;
}

static int select_databases(struct task_config *t, const struct option_values *v, struct err *err)
{
    char one[16];
    const char *list = options_text(v, OPTION_DB);
    if (list && strcmp(list, "all") != 0 &&
        check_letters(v, OPTION_DB, "0123456789,-", "0,3,8-15", err) < 0)
        return -1;
    if (list || t->source.uri.db < 0)
        return db_select_parse(&t->select, list, err) < 0 ? name_option(err, "--db") : 0;
    snprintf(one, sizeof(one), "%d", t->source.uri.db);
    return db_select_parse(&t->select, one, err) < 0 ? err_wrap(err, "--source") : 0;
}

static int read_databases(struct task_config *t, const struct option_values *v, struct err *err)
{
    if (select_databases(t, v, err) < 0) return -1;
    if (check_letters(v, OPTION_DB_MAP, "0123456789:,", "0:5,3:0", err) < 0) return -1;
    if (t->target.uri.db >= 0) return map_by_target_uri(t, v, err);
    if (db_select_parse_map(&t->select, options_text(v, OPTION_DB_MAP), err) < 0)
        return name_option(err, "--db-map");
    return 0;
}

static int read_timeout(int *ret_ms, const struct option_values *v, enum option_id id,
                        struct err *err)
{
    int64_t ms = options_duration_ms(v, id);
    if (ms < 1 || ms > INT_MAX)
        return err_set(err, ERR_USAGE, "--%s: must be from 1ms to 24d", option_def(id)->name);
    *ret_ms = (int)ms;
    return 0;
}

static int read_limits(struct task_config *t, const struct option_values *v, struct err *err)
{
    if (read_timeout(&t->connect_timeout_ms, v, OPTION_CONNECT_TIMEOUT, err) < 0) return -1;
    if (read_timeout(&t->io_timeout_ms, v, OPTION_IO_TIMEOUT, err) < 0) return -1;
    t->retry_time_ms = takes(v, OPTION_RETRY_TIME) ? options_duration_ms(v, OPTION_RETRY_TIME)
                                                   : t->io_timeout_ms;
    t->spool_dir = options_text(v, OPTION_SPOOL_DIR);
    if (!options_given(v, OPTION_SPOOL_MAX)) return 0;
    t->spool_max_bytes = options_size(v, OPTION_SPOOL_MAX);
    if (t->spool_max_bytes == 0)
        return err_set(err, ERR_USAGE, "--spool-max: must be more than nothing");
    return 0;
}

enum option_id config_output_option(enum option_command command)
{
    if (command == OPTION_COMMAND_BACKUP) return OPTION_FORMAT;
    return command == OPTION_COMMAND_INSPECT ? OPTION_REPORT : OPTION_OUTPUT;
}

static void read_output(struct config *c, const struct option_values *v)
{
    c->output = (enum config_output)options_choice(v, config_output_option(v->command));
    c->quiet = options_given(v, OPTION_QUIET);
    c->metrics_file = options_text(v, OPTION_METRICS_FILE);
    c->log = (struct log_config){
        .level = (enum log_level)options_choice(v, OPTION_LOG_LEVEL),
        .json = c->output == CONFIG_OUTPUT_JSON,
        .file = options_text(v, OPTION_LOG_FILE),
    };
    if (c->log.file || options_given(v, OPTION_LOG_LEVEL)) return;
    if (v->command == OPTION_COMMAND_INSPECT) c->log.level = LOG_WARN;
    if (c->quiet) c->log.level = LOG_ERROR;
}

/* What is read is a file, or a server. */
static int read_source(struct task_config *t, const struct option_values *v, struct err *err)
{
    t->source.uri.db = -1;
    if (v->command == OPTION_COMMAND_INSPECT) {
        const char *input = options_text(v, OPTION_INPUT);
        if (strstr(input, "://")) return read_side(&t->source, v, &input_options, err);
        t->file = input;
    }
    if (v->command == OPTION_COMMAND_RESTORE) t->file = options_text(v, OPTION_FILE);
    if (t->file && strstr(t->file, "://")) /* not repeated: a password may be in it */
        return err_set(err, ERR_USAGE,
                       "FILE: a server cannot be restored; keyhaul migrate --source URI moves its "
                       "data");
    return t->file ? 0 : read_side(&t->source, v, &source_options, err);
}

static int read_target(struct task_config *t, const struct option_values *v, struct err *err)
{
    t->target.uri.db = -1;
    if (takes(v, OPTION_TARGET)) return read_side(&t->target, v, &target_options, err);
    if (!takes(v, OPTION_BACKUP_FILE)) return 0;
    t->backup = options_text(v, OPTION_BACKUP_FILE);
    t->force = options_given(v, OPTION_FORCE);
    if (!t->backup) return err_set(err, ERR_USAGE, "--output: missing, say which file to write");
    if (strstr(t->backup, "://"))
        return err_set(err, ERR_USAGE,
                       "--output: a backup is a file; keyhaul migrate --target URI writes to a "
                       "server");
    if (strcmp(t->backup, "-") == 0)
        return err_set(err, ERR_USAGE,
                       "--output: standard output cannot be taken back when the source fails; name "
                       "a file (./- for one of that name)");
    return 0;
}

static int read_shards(struct task_config *t, const struct option_values *v, struct err *err)
{
    uint64_t n;
    const char *max = options_text(v, OPTION_MAX_SNAPSHOTS);
    if (!max) return 0;
    if (!num_get_u64(span_str(max), &n) || n < 1 || n > UINT16_MAX)
        return err_set(err, ERR_USAGE, "--max-snapshots: must be a number from 1 on");
    t->max_snapshots = (unsigned)n;
    return 0;
}

static int read_task(struct task_config *t, const struct option_values *v, struct err *err)
{
    t->type = takes(v, OPTION_TYPE) ? (enum task_type)options_choice(v, OPTION_TYPE) : TASK_FULL;
    t->on_conflict = (enum task_conflict)options_choice(v, OPTION_ON_CONFLICT);
    t->on_unsupported = (enum task_on_unsupported)options_choice(v, OPTION_ON_UNSUPPORTED);
    t->on_error = (enum task_on_error)options_choice(v, OPTION_ON_ERROR);
    t->until = (enum task_until)options_choice(v, OPTION_UNTIL);
    t->name = options_text(v, OPTION_TASK);
    t->state_dir = options_text(v, OPTION_STATE_DIR);
    t->restart = options_given(v, OPTION_RESTART);
    t->no_resume = takes(v, OPTION_RESUME) && options_choice(v, OPTION_RESUME) == 1;
    if (t->no_resume && t->type == TASK_INCREMENTAL)
        return err_set(err, ERR_USAGE,
                       "--resume no: once lost, everything is copied again, and with --type "
                       "incremental nothing is copied");
    if (read_source(t, v, err) < 0 || read_target(t, v, err) < 0) return -1;
    t->source.prefer_replica = options_given(v, OPTION_SOURCE_PREFER_REPLICA);
    if (check_shared_tls(t, v, err) < 0 || check_sentinels(t, v, err) < 0) return -1;
    if (read_databases(t, v, err) < 0) return -1;
    if (takes(v, OPTION_KEYS) && key_select_parse(&t->keys, options_text(v, OPTION_KEYS),
                                                  options_text(v, OPTION_SKIP_KEYS), err) < 0)
        return -1;
    if (read_shards(t, v, err) < 0) return -1;
    return read_limits(t, v, err);
}

static int read_inspect(struct config *c, const struct option_values *v, struct err *err)
{
    uint64_t top;
    if (v->command != OPTION_COMMAND_INSPECT) return 0;
    if (!num_get_u64(span_str(options_text(v, OPTION_TOP)), &top) || top > INSPECT_TOP_MAX)
        return err_set(err, ERR_USAGE, "--top: must be a number from 0 to %d", INSPECT_TOP_MAX);
    c->top = (unsigned)top;
    c->has_supposed = options_given(v, OPTION_FOR);
    if (!c->has_supposed || suppose_server(&c->supposed, options_text(v, OPTION_FOR), err) == 0)
        return 0;
    return err_wrap(err, "--for");
}

int config_from_options(struct config *ret, const struct option_values *values, struct err *err)
{
    struct config c = {0};
    read_output(&c, values);
    if (read_task(&c.task, values, err) < 0 || read_inspect(&c, values, err) < 0) {
        config_release(&c);
        return -1;
    }
    *ret = c;
    return 0;
}

static void release_side(struct task_side *side)
{
    uri_release(&side->uri);
    if (side->password) explicit_bzero(side->password, strlen(side->password));
    free(side->password);
    side->password = NULL;
    if (side->sentinel_password)
        explicit_bzero(side->sentinel_password, strlen(side->sentinel_password));
    free(side->sentinel_password);
    side->sentinel_password = NULL;
    cluster_addresses_release(&side->addresses);
}

void config_release(struct config *c)
{
    release_side(&c->task.source);
    release_side(&c->task.target);
    key_select_release(&c->task.keys);
}
