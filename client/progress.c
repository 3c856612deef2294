/* progress: see progress.h. */
#include "client/progress.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/cli.h"
#include "client/text.h"

#define PROGRESS_NS 100000000ull
#define PROGRESS_CELLS 20

static atomic_bool got_signal;

uint64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

void progress_init(struct progress *p, const struct cli *cli, const char *what)
{
    *p = (struct progress){.shown = cli->err_tty && !cli->quiet, .what = what};
}

void progress_show(struct progress *p, double fraction, uint64_t count, double per_second)
{
    char bar[PROGRESS_CELLS + 1], done[32], rate[32];
    uint64_t now;
    int full;

    if (!p->shown)
        return;
    now = clock_ns();
    if (p->drawn && now - p->last_ns < PROGRESS_NS)
        return;
    p->last_ns = now;
    p->drawn = true;
    text_show_count(count, done, sizeof(done));
    text_show_count((uint64_t)per_second, rate, sizeof(rate));
    if (fraction < 0) {
        fprintf(stderr, "\r\033[K%s  %s  %s/s", p->what, done, rate);
        return;
    }
    full = (int)(fraction * PROGRESS_CELLS);
    full = full > PROGRESS_CELLS ? PROGRESS_CELLS : full;
    memset(bar, '-', PROGRESS_CELLS);
    memset(bar, '#', (size_t)full);
    bar[PROGRESS_CELLS] = '\0';
    fprintf(stderr, "\r\033[K%s  [%s] %3.0f %%  %s  %s/s", p->what, bar, fraction * 100, done,
            rate);
}

void progress_clear(struct progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}

static void on_signal(int number)
{
    got_signal = true;
    signal(number, SIG_DFL);
}

void interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool interrupted(void)
{
    return got_signal;
}
