// SPDX-License-Identifier: BSD-3-Clause
// The table of commands, and the choice among them.
#include "cli/cli.h"
#include "cli/screen.h"
#include "control/nearest.h"
#include "control/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const migrate_examples[] = {
    "Move everything and follow the changes until Ctrl-C:",
    "keyhaul migrate --source redis://old:6379 --target redis://new:6379",
    "Move databases 0 and 3, 3 into 1, and end once nothing is left:",
    "keyhaul migrate --source redis://old --target redis://new \\\n"
    "    --db 0,3 --db-map 3:1 --until caught-up",
    "With TLS to the target, and passwords from files:",
    "keyhaul migrate --source redis://old --source-password-file old.pw \\\n"
    "    --target rediss://mover@new:6380 --target-password-file new.pw \\\n"
    "    --target-tls-ca ca.pem",
    NULL,
};

static const char *const restore_examples[] = {
    "Load a backup into an empty server:",
    "keyhaul restore dump.rdb --target redis://new:6379",
    "An append-only file of several parts, only database 0:",
    "keyhaul restore /var/lib/redis/appendonlydir --db 0 --target redis://new",
    "From a pipe:",
    "zcat dump.rdb.gz | keyhaul restore - --target redis://new",
    NULL,
};

static const char *const backup_examples[] = {
    "All of a server:",
    "keyhaul backup --source redis://127.0.0.1:6379 --output dump.rdb",
    "Two databases of it, in the place of an older backup:",
    "keyhaul backup --source redis://127.0.0.1:6379 --db 0,3 \\\n    --output dump.rdb --force",
    "Some of its keys:",
    "keyhaul backup --source redis://old:6379 --keys 'user:*,cart:*' \\\n    --output users.rdb",
    NULL,
};

static const char *const inspect_examples[] = {
    "What a file holds, and what Redis 6.2 could not take of it:",
    "keyhaul inspect dump.rdb --for redis-6.2",
    "The ten biggest keys of a live server:",
    "keyhaul inspect redis://127.0.0.1:6379 --top 10",
    "One line for each key, to be compared with those of another file:",
    "keyhaul inspect a.rdb --output jsonl | sort > a.jsonl",
    NULL,
};

static const char *const status_examples[] = {
    "All tasks of this user:",
    "keyhaul status",
    "One of them in full:",
    "keyhaul status old-6379-to-new-6379",
    "For a program, one JSON object a line:",
    "keyhaul status --output json",
    NULL,
};

static const char *const stop_examples[] = {
    "Stop a task; the same migrate command goes on later:",
    "keyhaul stop old-6379-to-new-6379",
    NULL,
};

static const char *const finish_examples[] = {
    "Once the application writes to the new server:",
    "keyhaul finish old-6379-to-new-6379",
    NULL,
};

static const struct cli_command commands[] = {
    {
        .name = "migrate",
        .option_bit = OPTION_COMMAND_MIGRATE,
        .usage = "keyhaul migrate --source URI --target URI [options]",
        .brief = "move the data of a server into another, and follow its changes",
        .about = "Moves the data of a live Redis or Valkey server into another one while the "
                 "application keeps writing: first a snapshot of all keys, then every change made "
                 "since, in its order, until both sides hold the same and stay so. The source is "
                 "only read, as by a replica of its own.\n"
                 "The first SIGINT or SIGTERM finishes what is in flight, prints the summary and "
                 "ends with status 0 when nothing was lost; the second one leaves at once, with "
                 "status 1.\n",
        .examples = migrate_examples,
        .run = cli_migrate,
    },
    {
        .name = "restore",
        .option_bit = OPTION_COMMAND_RESTORE,
        .usage = "keyhaul restore FILE --target URI [options]",
        .brief = "load an RDB or AOF, of any version, into a server",
        .about = "Loads a backup into a running Redis or Valkey server, older, newer or of another "
                 "family than the one that wrote it: an RDB file, an AOF (which may begin with an "
                 "RDB), or the directory of an AOF of several files. What a file is, its content "
                 "tells.\n"
                 "An AOF whose last command or transaction is not whole is read up to there, as a "
                 "server would, and it is said. Under --on-conflict fail the databases written to "
                 "must be empty.\n",
        .examples = restore_examples,
        .run = cli_migrate,
    },
    {
        .name = "backup",
        .option_bit = OPTION_COMMAND_BACKUP,
        .usage = "keyhaul backup --source URI --output FILE [options]",
        .brief = "write the data of a live server into an RDB file",
        .about = "Writes a snapshot of a live Redis or Valkey server into an RDB file, which that "
                 "server, and every newer one of its family, loads at its start: values are copied "
                 "byte by byte as the source sent them. With --db and --keys it holds only these "
                 "databases "
                 "and keys.\n"
                 "The file is there under its name when all of it is on the disk, or not at all: a "
                 "signal ends with status 1 and leaves nothing.\n",
        .examples = backup_examples,
        .run = cli_migrate,
    },
    {
        .name = "inspect",
        .option_bit = OPTION_COMMAND_INSPECT,
        .usage = "keyhaul inspect FILE|URI [options]",
        .brief = "tell what an RDB, an AOF or a live server holds",
        .about =
            "Reads a snapshot, of any version, from a file or a live server, and reports its "
            "keys and bytes by database, type and encoding, the expiries, the biggest keys, "
            "and what a server of another version could not take as it is. Bytes are those of "
            "the snapshot: key, value and expiry as they are stored there.\n"
            "Of an AOF that is the snapshot it begins with. The commands behind it are counted, "
            "by name and database, and not run: the report says so.\n"
            "With --output jsonl it prints one line for each key, with a checksum that is the "
            "same wherever the key holds the same, whatever version or encoding.\n",
        .examples = inspect_examples,
        .run = cli_inspect,
    },
    {
        .name = "status",
        .option_bit = OPTION_COMMAND_STATUS,
        .usage = "keyhaul status [NAME] [options]",
        .brief = "list the migrations, running or not",
        .about = "Lists the tasks that migrate has begun and not come to the end of: whether a "
                 "process runs it, what it does or how it ended, how far it is behind, the keys "
                 "loaded, the writes refused in its last run, when that was last heard of; and "
                 "what it waits for, why, and how long yet.\n"
                 "A task whose files are damaged is listed as such. No tasks are no error.\n",
        .examples = status_examples,
        .run = cli_status,
    },
    {
        .name = "stop",
        .option_bit = OPTION_COMMAND_STOP,
        .usage = "keyhaul stop NAME [options]",
        .brief = "end the process that runs a migration; it can go on later",
        .about = "Sends SIGTERM to the process that runs the task, waits until it has finished "
                 "what is in flight, and tells how it ended. The same migrate command as before "
                 "goes on from there.\n"
                 "Status 0: no process runs it, be it that none did. Status 1: it still runs after "
                 "--timeout. Status 2: there is no such task.\n",
        .examples = stop_examples,
        .run = cli_stop,
    },
    {
        .name = "finish",
        .option_bit = OPTION_COMMAND_FINISH,
        .usage = "keyhaul finish NAME [options]",
        .brief = "apply what is left of a migration, and close it",
        .about = "Asks the process that runs the task to end it, once everything the source has is "
                 "on the target: it gives all keys their deadlines, removes the checkpoint from "
                 "the target and the task's folder, and ends. Ctrl-C takes the request back. A "
                 "task that is still loading its snapshot is left alone.\n"
                 "Where no process runs it, finish runs the task itself, with the options it was "
                 "begun with. Passwords are not kept: give them as for migrate.\n",
        .examples = finish_examples,
        .run = cli_finish,
    },
    {
        .name = "help",
        .usage = "keyhaul help [COMMAND]",
        .brief = "tell what a command does and takes: keyhaul help migrate",
        .run = cli_help,
    },
    {
        .name = "version",
        .usage = "keyhaul version",
        .brief = "print the version",
        .run = cli_version,
    },
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

const struct cli_command *cli_command(size_t i)
{
    return i < COMMANDS ? &commands[i] : NULL;
}

enum option_command cli_option_bit(const char *name)
{
    unsigned bit = 0;
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0) bit = commands[i].option_bit;
    return (enum option_command)bit;
}

int cli_usage(const char *command, const struct err *err)
{
    char words[sizeof(err->msg) + 64];
    snprintf(words, sizeof(words), "keyhaul%s%s: %s", command ? " " : "", command ? command : "",
             err->msg);
    screen_words(text_make_plain(words));
    fprintf(stderr, "try: keyhaul help%s%s\n", command ? " " : "", command ? command : "");
    return err_exit_status(ERR_USAGE);
}

int cli_fail(const struct err *err)
{
    char words[sizeof(err->msg) + 16];
    snprintf(words, sizeof(words), "keyhaul: %s", err->msg);
    screen_words(text_make_plain(words));
    return err_exit_status(err->code);
}

int cli_print(const void *p, size_t n)
{
    struct err err = {0};
    if (fwrite(p, 1, n, stdout) == n && fflush(stdout) == 0) return 0;
    err_set(&err, ERR_IO, "cannot write to standard output: %s", strerror(errno));
    return cli_fail(&err);
}

int cli_with_options(int argc, char **argv, int (*run)(const struct option_values *v))
{
    struct err err = {0};
    struct option_values v;
    char help[] = "help";
    if (options_parse(&v, cli_option_bit(argv[0]), argc, argv, &err) < 0)
        return cli_usage(argv[0], &err);
    int status = options_given(&v, OPTION_HELP) ? cli_help(2, (char *[]){help, argv[0], NULL})
                                                : run(&v);
    options_release(&v);
    return status;
}

int cli_version(int argc, char **argv)
{
    static const char words[] = "keyhaul " KEYHAUL_VERSION "\n";
    struct err err = {0};
    if (argc > 1) {
        err_set(&err, ERR_USAGE, "takes no arguments");
        return cli_usage(argv[0], &err);
    }
    return cli_print(words, sizeof(words) - 1);
}

/* A word that is no name may be anything, a URI with a password among it: not repeated. */
static int unknown_command(const char *word)
{
    struct nearest near;
    struct err err = {0};
    bool plain = *word && strlen(word) <= 20 && !word[strspn(word, "abcdefghijklmnopqrstuvwxyz-")];
    nearest_init(&near, plain ? word : "");
    for (size_t i = 0; i < COMMANDS; i++)
        nearest_try(&near, commands[i].name);
    err_set(&err, ERR_USAGE, "%s%s%s%s%s", plain ? word : "the first argument",
            plain ? ": unknown command" : " is no command", near.best ? ", did you mean " : "",
            near.best ? near.best : "", near.best ? "?" : "");
    return cli_usage(NULL, &err);
}

int cli_main(int argc, char **argv)
{
    char help[] = "help", version[] = "version";
    if (argc < 2) return cli_help(1, (char *[]){help, NULL});
    char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) word = help;
    if (strcmp(word, "--version") == 0) word = version;
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(word, commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    return unknown_command(word);
}
