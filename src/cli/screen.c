// SPDX-License-Identifier: BSD-3-Clause
// The live block. One write() per picture, so that nothing flickers.
#include "cli/screen.h"

#include "base/num.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* log_config.around takes no argument, as the log is one for the whole program; so is the terminal
 * that both write to. */
static struct screen *_Atomic open_screen;

bool screen_can_redraw(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

static unsigned terminal_columns(void)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");
    uint64_t n;
    if (columns && num_get_u64(span_str(columns), &n) && n > 0 && n <= UINT16_MAX)
        return (unsigned)n;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0) return size.ws_col;
    return 0;
}

static unsigned terminal_rows(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_row : 0;
}

/* A terminal that is gone is no reason to stop moving data. */
static void put(const struct text *t)
{
    const uint8_t *p = t->buf.p;
    size_t n = t->buf.n;
    while (n) {
        ssize_t w = write(STDERR_FILENO, p, n);
        if (w <= 0) return;
        p += w;
        n -= (size_t)w;
    }
}

void screen_words(const char *words)
{
    struct text t;
    unsigned columns = terminal_columns();
    text_init(&t, 16384);
    if (isatty(STDERR_FILENO))
        text_wrap(&t, words, 2, columns > 20 ? columns : 80);
    else
        text_printf(&t, "%s\n", words);
    put(&t);
    text_release(&t);
}

/* Takes the picture away and puts `line` (may be NULL) and, when wanted, the new one in its place.
 */
static void repaint(struct screen *s, const char *line, bool picture)
{
    struct text t;
    text_init(&t, 16384);
    if (s->standing) text_printf(&t, "\x1b[%uA\r\x1b[J", s->standing);
    if (line) text_printf(&t, "%s\n", line);
    if (picture) text_printf(&t, "%.*s", (int)s->block.buf.n, (char *)s->block.buf.p);
    put(&t);
    s->standing = picture ? s->rows : 0;
    text_release(&t);
}

void screen_open(struct screen *s)
{
    *s = (struct screen){0};
    pthread_mutex_init(&s->lock, NULL);
    text_init(&s->block, 8192);
    atomic_store(&open_screen, s);
}

void screen_close(struct screen *s)
{
    atomic_store(&open_screen, NULL);
    pthread_mutex_lock(&s->lock);
    repaint(s, NULL, false);
    pthread_mutex_unlock(&s->lock);
    text_release(&s->block);
    pthread_mutex_destroy(&s->lock);
}

void screen_draw(struct screen *s, const struct progress *p)
{
    const char *no_color = getenv("NO_COLOR");
    struct progress_style style = {
        .columns = terminal_columns(), .rows = terminal_rows(), .color = !no_color || !*no_color};
    pthread_mutex_lock(&s->lock);
    text_clear(&s->block);
    s->rows = progress_block(p, &style, &s->block);
    repaint(s, NULL, true);
    pthread_mutex_unlock(&s->lock);
}

void screen_say(struct screen *s, const char *line)
{
    pthread_mutex_lock(&s->lock);
    repaint(s, line, true);
    pthread_mutex_unlock(&s->lock);
}

void screen_around(bool before)
{
    struct screen *s = atomic_load(&open_screen);
    if (!s) return;
    /* Locked from the line's beginning to its end: no picture in between. */
    if (before) pthread_mutex_lock(&s->lock);
    repaint(s, NULL, !before);
    if (!before) pthread_mutex_unlock(&s->lock);
}
