// SPDX-License-Identifier: BSD-3-Clause
// The live block on a terminal (standard error): redrawn in place, steps aside for log lines.
//
// Draw and erase from one thread; screen_around() may come from any.
#ifndef KEYHAUL_CLI_SCREEN_H
#define KEYHAUL_CLI_SCREEN_H

#include "cli/progress.h"

#include <pthread.h>

struct screen {
    pthread_mutex_t lock;
    struct text block; /* the picture */
    unsigned rows;     /* of it */
    unsigned standing; /* rows on the terminal now, 0: it was taken away */
};

/* Is standard error a terminal that can redraw (TERM is not dumb)? */
bool screen_can_redraw(void);

/* At most one screen at a time is open; open and close it while no other thread logs. */
void screen_open(struct screen *s);
void screen_close(struct screen *s); /* takes the block away */

void screen_draw(struct screen *s, const struct progress *p);
void screen_say(struct screen *s, const char *line); /* a line that stays, above the block */

/* A line on standard error; on a terminal broken at spaces, so that no word is cut by its edge. */
void screen_words(const char *words);

/* For log_config.around. Nothing happens while no screen is open. */
void screen_around(bool before);

#endif
