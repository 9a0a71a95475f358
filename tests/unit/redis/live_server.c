// SPDX-License-Identifier: BSD-3-Clause
// Starting and ending a real redis-server.
#include "live_server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

int live_free_port(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    close(fd);
    return ntohs(sa.sin_port);
}

static void exec_server(const struct live_server *s, const char *program, const char *const *extra)
{
    char port[8];
    snprintf(port, sizeof(port), "%d", s->port);
    const char *argv[48] = {
        "redis-server", "--port", port, "--bind",    "127.0.0.1", "--unixsocket", s->path, "--dir",
        s->dir,         "--save", "",   "--logfile", "log",       "--appendonly", "no"};
    size_t n = 15;
    for (; extra && *extra && n < 47; extra++)
        argv[n++] = *extra;
    char *copy[48]; /* exec wants them writable */
    for (size_t i = 0; i < n; i++)
        copy[i] = strdup(argv[i]);
    copy[n] = NULL;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that dies leaves nothing behind */
    execvp(program, copy);
    _exit(127);
}

struct client_config live_config(const struct live_server *s, const char *side)
{
    return (struct client_config){
        .uri = &s->uri, .connect_timeout_ms = 5000, .io_timeout_ms = 10000, .side = side};
}

void live_start(struct live_server *s, bool with_port, const char *const *extra)
{
    live_start_program(s, "redis-server", with_port, extra);
}

void live_start_program(struct live_server *s, const char *program, bool with_port,
                        const char *const *extra)
{
    *s = (struct live_server){.port = with_port ? live_free_port() : 0};
    snprintf(s->dir, sizeof(s->dir), "/tmp/kh-live-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->path, sizeof(s->path), "%s/s", s->dir);
    s->uri = (struct uri){.unix_path = s->path, .db = -1};
    snprintf(s->uri.shown, sizeof(s->uri.shown), "live");
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) exec_server(s, program, extra);
    setpgid(s->pid, s->pid); /* here as well: whoever comes first */
    for (int i = 0; i < 500; i++) {
        struct conn_addr addr = {.unix_path = s->path, .connect_timeout_ms = 1000};
        struct conn *c;
        if (conn_open(&c, &addr, NULL, NULL) == 0) {
            conn_close(c);
            return;
        }
        usleep(10000);
    }
    fail_msg("%s did not start in %s", program, s->dir);
}

static void remove_dir(const char *path)
{
    DIR *d = opendir(path);
    const struct dirent *e;
    while (d && (e = readdir(d)) != NULL) {
        char file[320];
        snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
        unlink(file); /* "." and ".." stay */
    }
    if (d) closedir(d);
    rmdir(path);
}

void live_stop(struct live_server *s)
{
    kill(-s->pid, SIGKILL); /* also a child that saves */
    waitpid(s->pid, NULL, 0);
    remove_dir(s->dir);
}

struct client *live_client(const struct live_server *s, const char *side)
{
    struct client_config cfg = live_config(s, side);
    struct client *c = NULL;
    struct err err = {0};
    if (client_open(&c, &cfg, &err) < 0) fail_msg("%s", err.msg);
    return c;
}

void live_do(struct client *c, const char *words)
{
    struct span argv[32];
    size_t argc = 0;
    for (const char *p = words; *p; argc++) {
        size_t n = strcspn(p, " ");
        argv[argc] = span_of(p, n);
        p += p[n] ? n + 1 : n;
    }
    struct reply *r = NULL;
    struct err err = {0};
    if (client_callv(c, &r, argc, argv, &err) < 0) fail_msg("%s: %s", words, err.msg);
    if (reply_is_error(r)) fail_msg("%s: %s", words, (const char *)r->str.p);
    reply_free(r);
}

const char *live_folder(char *out, size_t size)
{
    const char *own = getenv("KEYHAUL_SERVERS"), *cache = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    if (own && *own) return own;
    if (cache && *cache)
        snprintf(out, size, "%s/keyhaul/servers", cache);
    else
        snprintf(out, size, "%s/.cache/keyhaul/servers", home ? home : "");
    return out;
}
