// SPDX-License-Identifier: BSD-3-Clause
// Damaged dumps and payloads, many of them: each must give an error or a value, in less than a
// second and 64 MB, and never end the program. `make mutate`.
//
//   mutate [--count N] [--seed S] [--jobs N]    so many, in so many processes
//   mutate --seed S --case N [--write FILE]     that one again, here; or its bytes to a file
//
// Each process works on every n-th number; the parent sees one die or hang, says which number it
// was at, and has another go on behind it.
#include "alloc.h"
#include "ways.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_MS    1000 /* processor time of one */
#define LIMIT_BYTES (64u << 20)
#define HANG_S      30 /* wall time, however busy the machine is */
#define JOBS_MAX    64
#define FAULTS_SAID 20

/* Of one process, seen by the parent. */
struct job {
    pid_t pid;
    uint64_t at, end; /* the number it is at; behind the last one */
    uint64_t since_s; /* when that began */
    uint64_t files, payloads, errors, values, faults;
    uint64_t most_ms, most_bytes;
    uint64_t slowest;
};

struct run {
    struct inputs in;
    uint64_t seed, count;
    unsigned n_jobs;
    struct job *job; /* shared */
    uint64_t deaths;
};

static uint64_t clock_ms(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void complain(const struct run *run, uint64_t number, const struct mutant *m,
                     const char *words)
{
    printf("case %" PRIu64 " (%s: %s): %s\n  again: mutate --seed %" PRIu64 " --case %" PRIu64 "\n",
           number, m->of->name, m->how, words, run->seed, number);
    fflush(stdout);
}

static void count_case(struct run *run, struct job *job, const struct mutant *m, uint64_t number,
                       enum ways_result result, const char *words, uint64_t ms)
{
    *(m->of->file ? &job->files : &job->payloads) += 1;
    *(result == WAYS_VALUE ? &job->values : &job->errors) += result != WAYS_WRONG;
    if (ms > job->most_ms) {
        job->most_ms = ms;
        job->slowest = number;
    }
    if (alloc_peak() > job->most_bytes) job->most_bytes = alloc_peak();
    if (ms > LIMIT_MS) words = "it took more than a second";
    if (alloc_peak() > LIMIT_BYTES) words = "it took more than 64 MB";
    if (result != WAYS_WRONG && ms <= LIMIT_MS && alloc_peak() <= LIMIT_BYTES) return;
    if (job->faults++ < FAULTS_SAID) complain(run, number, m, words);
}

static void do_case(struct run *run, struct job *job, struct ways *w, uint64_t number)
{
    struct mutant m;
    const char *words = "";
    mutant_make(&m, &run->in, run->seed, number);
    alloc_reset();
    uint64_t start = clock_ms(CLOCK_PROCESS_CPUTIME_ID);
    enum ways_result result = ways_decode(w, &m, &words);
    uint64_t ms = clock_ms(CLOCK_PROCESS_CPUTIME_ID) - start;
    count_case(run, job, &m, number, result, words, ms);
    mutant_free(&m);
}

static void work(struct run *run, struct job *job)
{
    struct ways w;
    alloc_begin(); /* the dumps */
    ways_init(&w);
    for (; job->at < job->end; job->at += run->n_jobs) {
        job->since_s = clock_ms(CLOCK_MONOTONIC) / 1000;
        do_case(run, job, &w, job->at);
    }
    ways_release(&w);
}

/* --- the parent --- */

static void start(struct run *run, struct job *job)
{
    fflush(stdout);
    job->since_s = clock_ms(CLOCK_MONOTONIC) / 1000;
    pid_t pid = fork();
    if (pid < 0) {
        perror("mutate: fork");
        exit(2);
    }
    if (pid) {
        job->pid = pid;
        return;
    }
    work(run, job);
    inputs_free(&run->in);
    fflush(stdout);
    _exit(0);
}

static struct job *job_of(struct run *run, pid_t pid)
{
    for (unsigned i = 0; i < run->n_jobs; i++)
        if (run->job[i].pid == pid) return &run->job[i];
    return NULL;
}

/* Crashed, or ended by us: named, and another one goes on behind it. */
static void bury(struct run *run, struct job *job, int status)
{
    struct mutant m;
    char words[80];
    snprintf(words, sizeof(words), "the program ended (%s %d)",
             WIFSIGNALED(status) ? "signal" : "status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    mutant_make(&m, &run->in, run->seed, job->at);
    complain(run, job->at, &m, words);
    mutant_free(&m);
    run->deaths++;
    job->at += run->n_jobs;
    if (job->at < job->end && run->deaths < FAULTS_SAID)
        start(run, job);
    else
        job->pid = 0;
}

static void end_hanging(struct run *run)
{
    uint64_t now = clock_ms(CLOCK_MONOTONIC) / 1000;
    for (unsigned i = 0; i < run->n_jobs; i++)
        if (run->job[i].pid && now > run->job[i].since_s + HANG_S) kill(run->job[i].pid, SIGKILL);
}

static void wait_all(struct run *run)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid < 0 && errno == ECHILD) return;
        if (pid <= 0) {
            end_hanging(run);
            usleep(20000);
            continue;
        }
        struct job *job = job_of(run, pid);
        if (!job) continue;
        job->pid = 0;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) bury(run, job, status);
    }
}

static int report(const struct run *run, uint64_t ms)
{
    struct job all = {0};
    for (unsigned i = 0; i < run->n_jobs; i++) {
        const struct job *j = &run->job[i];
        all.files += j->files;
        all.payloads += j->payloads;
        all.errors += j->errors;
        all.values += j->values;
        all.faults += j->faults;
        if (j->most_ms > all.most_ms) all.slowest = j->slowest;
        if (j->most_ms > all.most_ms) all.most_ms = j->most_ms;
        if (j->most_bytes > all.most_bytes) all.most_bytes = j->most_bytes;
    }
    struct rusage use;
    getrusage(RUSAGE_CHILDREN, &use);
    printf("mutated inputs: %" PRIu64 " (%" PRIu64 " files, %" PRIu64 " payloads) of %zu dumps and "
           "%zu values, seed %" PRIu64 "\n",
           all.files + all.payloads, all.files, all.payloads,
           run->in.n_small + run->in.n_middle + run->in.n_large, run->in.n_values, run->seed);
    printf("errors %" PRIu64 "; values %" PRIu64 "; wrong %" PRIu64 "; crashes and hangs %" PRIu64
           "\n",
           all.errors, all.values, all.faults, run->deaths);
    printf("longest %" PRIu64 " ms (case %" PRIu64 "), most memory %.1f MB (process %.0f MB), "
           "%.0f s in all\n",
           all.most_ms, all.slowest, (double)all.most_bytes / 1048576, (double)use.ru_maxrss / 1024,
           (double)ms / 1000);
    bool whole = all.files + all.payloads + run->deaths == run->count;
    return all.faults || run->deaths || !whole || !all.errors || !all.values;
}

static int run_all(struct run *run)
{
    uint64_t start_ms = clock_ms(CLOCK_MONOTONIC);
    for (unsigned i = 0; i < run->n_jobs; i++) {
        run->job[i].at = i;
        run->job[i].end = run->count;
        start(run, &run->job[i]);
    }
    wait_all(run);
    return report(run, clock_ms(CLOCK_MONOTONIC) - start_ms);
}

/* --- one --- */

static int write_case(const struct run *run, uint64_t number, const char *path)
{
    struct mutant m;
    mutant_make(&m, &run->in, run->seed, number);
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(m.p, 1, m.n, f) == m.n;
    if (f && fclose(f) != 0) ok = false;
    if (!ok) perror(path);
    mutant_free(&m);
    return !ok;
}

static int run_one(struct run *run, uint64_t number)
{
    struct ways w;
    alloc_begin(); /* the dumps */
    ways_init(&w);
    do_case(run, run->job, &w, number);
    ways_release(&w);
    run->count = 1;
    return run->job->faults ? 1 : 0;
}

static uint64_t number_of(const char *s)
{
    char *end;
    errno = 0;
    uint64_t v = strtoull(s, &end, 10);
    if (!*s || *end || errno) {
        fprintf(stderr, "mutate: not a number: %s\n", s);
        exit(2);
    }
    return v;
}

int main(int argc, char **argv)
{
    struct run run = {
        .seed = 1, .count = 200000, .n_jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN)};
    const char *path = NULL;
    uint64_t one = UINT64_MAX;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--count") == 0)
            run.count = number_of(argv[i + 1]);
        else if (strcmp(argv[i], "--seed") == 0)
            run.seed = number_of(argv[i + 1]);
        else if (strcmp(argv[i], "--jobs") == 0)
            run.n_jobs = (unsigned)number_of(argv[i + 1]);
        else if (strcmp(argv[i], "--case") == 0)
            one = number_of(argv[i + 1]);
        else if (strcmp(argv[i], "--write") == 0)
            path = argv[i + 1];
    }
    if (run.n_jobs < 1 || run.n_jobs > JOBS_MAX) run.n_jobs = JOBS_MAX;
    run.job = mmap(NULL, JOBS_MAX * sizeof(*run.job), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (run.job == MAP_FAILED) return 2;
    inputs_load(&run.in);
    int rc = one == UINT64_MAX ? run_all(&run)
             : path            ? write_case(&run, one, path)
                               : run_one(&run, one);
    inputs_free(&run.in);
    return rc;
}
