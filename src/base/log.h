// SPDX-License-Identifier: BSD-3-Clause
// The log: one line per event, text or JSON, to standard error or a file. The only mutable global.
// Thread-safe: a line is one write(). Never a value of user data, never a password.
#ifndef KEYHAUL_BASE_LOG_H
#define KEYHAUL_BASE_LOG_H

#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct log_config {
    enum log_level level;
    bool json;
    const char *file; /* NULL: standard error */
    /* Called with true before and false after a line is written to standard error, so that a live
     * block on the terminal can step aside. May be NULL. */
    void (*around)(bool before);
};

KH_MUST int log_open(const struct log_config *cfg, struct err *err);
void log_close(void);
bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *fmt, ...) KH_PRINTF(2, 3);

/* Lines of this thread begin with a name from now on ("shard 2 (127.0.0.1:7001): "): several do the
 * same work, and who does it knows of no others. Anybody may give it another name later. */
#define LOG_NAME_MAX 200

struct log_name {
    pthread_t thread;
    char words[LOG_NAME_MAX];
    struct log_name *next;
};

void log_name_begin(struct log_name *n, const char *words); /* of the calling thread; borrowed */
void log_name_change(struct log_name *n, const char *words);
void log_name_end(struct log_name *n); /* before the thread ends */

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_enabled(LOG_DEBUG)) log_line(LOG_DEBUG, __VA_ARGS__);                              \
    } while (0)

#endif
