// SPDX-License-Identifier: BSD-3-Clause
// RESP: commands as the stream carries them, replies as servers give them. Pure.
#ifndef KEYHAUL_WIRE_RESP_H
#define KEYHAUL_WIRE_RESP_H

#include "base/buf.h"
#include "wire/reader.h"

/* --- commands (arrays of bulk strings; Redis 2.4/2.6 also send "select 3\r\n" inline) --- */

struct resp_cmd {
    struct span *argv; /* owned by the parser; spans point into the reader, held */
    size_t argc;
    struct span raw; /* the whole command as it came, framing included */
};

#define RESP_ARGS_MAX (1024 * 1024) /* spans kept, not what a command may have: 16 MB of them */
#define RESP_BULK_MAX (1ULL << 40)  /* longer than any server takes */

struct resp_cmds { /* parser: keeps argv between commands */
    struct span *argv;
    size_t alloc;
    size_t max_args; /* RESP_ARGS_MAX, tests set less */
};
void resp_cmds_init(struct resp_cmds *c);
void resp_cmds_release(struct resp_cmds *c);

/* The next command, held whole in the reader: 0 ok. 1: it is larger than `limit` bytes or has more
 * than max_args arguments (then r->p is where it began, and ret->argv[0 .. argc) holds the
 * arguments that were seen whole; go through it with resp_head_next). -1: ERR_PROTO for what is no
 * command, else the reader's error; r->p is back where the command began. argc is never 0 when all
 * is well. Newlines between commands are passed over, they count as no command but as bytes;
 * cmd->raw starts after them. The caller lets go of the bytes (reader_release) when done with the
 * command. */
KH_MUST int resp_cmd_next(struct resp_cmds *c, struct reader *r, size_t limit, struct resp_cmd *ret,
                          struct err *err);

/* One head, "*3\r\n" or "$5\r\n": the number after `type`, at most max. For commands that are too
 * large to be held. */
KH_MUST int resp_head_next(struct reader *r, char type, uint64_t max, uint64_t *ret,
                           struct err *err);

/* Write one argument, or a command's head, into a buffer. */
KH_MUST int resp_put_head(struct buf *b, size_t argc, struct err *err);
KH_MUST int resp_put_arg(struct buf *b, struct span arg, struct err *err);
KH_MUST int resp_put_cmd(struct buf *b, size_t argc, const struct span *argv, struct err *err);
/* Same from C strings: resp_put_strs(b, err, "SET", "k", "v", NULL). */
KH_MUST int resp_put_strs(struct buf *b, struct err *err, ...);

/* --- replies: a push scanner that finds where replies end and keeps only errors --- */

#define RESP_ERROR_MAX 256
#define RESP_DEPTH_MAX 16

/* One finished top-level reply. A '>' (push) comes by itself: it answers no request. */
struct resp_reply {
    char type;       /* '+' '-' ':' '$' '*' '_' '#' ',' '(' '!' '=' '%' '~' '>' */
    bool is_null;    /* $-1, *-1, _ */
    int64_t integer; /* ':' its value; '#' 0 or 1; '*' '~' '>' '%' the count in its head */
    char line[RESP_ERROR_MAX]; /* '+' '-' '!' ',' '(' ':' '#': its text, cut to fit, NUL-terminated
                                */
    struct span bulk;          /* '$' '=': content, only with keep_bulk, until the next feed */
};

/* An error inside an array reply (EXEC): index of the top-level element it belongs to. */
typedef void resp_nested_error_fn(void *ctx, size_t index, const char *line);

struct resp_scan {
    /* set by the user before use */
    resp_nested_error_fn *on_nested_error; /* may be NULL */
    void *ctx;
    struct buf *keep_bulk; /* NULL: bulk contents are passed over, of any size */
    /* In its place, where set: gets the content of a top-level bulk as it comes. */
    void (*take_bulk)(void *ctx, const uint8_t *p, size_t n);
    void *take_ctx;
    /* state of the scanner */
    struct {
        uint64_t left; /* elements still to come */
        bool attr;     /* '|': stands before the value it tells about, counts as none itself */
    } stack[RESP_DEPTH_MAX];
    unsigned depth;
    unsigned state;
    uint64_t bulk_left;
    size_t top_index; /* of the current element in the top-level array */
    size_t line_n;
    char line[RESP_ERROR_MAX];
    char type; /* of the value being read */
    struct resp_reply reply;
};
void resp_scan_init(struct resp_scan *s);

/* Feed bytes. 1: a top-level reply is complete in s->reply, *ret_used tells how many bytes were
 * eaten. 0: all bytes eaten, more wanted. -1: ERR_PROTO, or keep_bulk's cap (ERR_LIMIT). RESP2 and
 * RESP3 types but for streamed ones ("$?"), which no server sends. Never sees further than the end
 * of the reply, so that each reply's bytes can be told apart. */
KH_MUST int resp_scan_feed(struct resp_scan *s, const uint8_t *p, size_t n, size_t *ret_used,
                           struct err *err);

/* Fast path: how many bytes at p are "+OK\r\n" or "+QUEUED\r\n" repeated, and how many replies that
 * is, at most max. Only when the scanner is between replies. */
size_t resp_scan_plain(const uint8_t *p, size_t n, size_t max, size_t *ret_replies);
/* The same of all whole replies that tell no error and whose content nobody asks for: lines,
 * integers, and arrays of those and of bulks. Others may be left to the scanner as well. */
size_t resp_scan_quiet(const uint8_t *p, size_t n, size_t max, size_t *ret_replies);

#endif
