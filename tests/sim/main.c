/* main: runs seeds and reports.
 *
 *   sim --seed N [--trace]        one run, told line by line
 *   sim --seeds A..B              a range
 *   sim --file PATH               one seed a line; # begins a comment
 *   sim --minutes M               fresh seeds for so long
 *   --nodes N                     instead of a drawn number
 *   --twice                       each seed twice; the event hashes must agree
 *   --quiet                       no table
 *   --first                       stop at the first failure
 *
 * Exit status 1 as soon as a seed fails; its number and the reason are printed. With 100 seeds or
 * more, a kind of fault that never happened, or an outcome never seen, fails as well. */
#include "tests/sim/sim.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct report {
    struct sim_options options;
    bool twice, quiet, first;
    struct stats stats;
    uint64_t n_seeds, n_failed, simulated_us;
    clock_t began;
};

static const char *const cover_text[COVER_TRACE] = {"writes acknowledged",
                                                    "writes of unknown outcome",
                                                    "writes refused",
                                                    "no quorum",
                                                    "deadline passed",
                                                    "no space",
                                                    "clock not sure",
                                                    "overloaded",
                                                    "gets that found",
                                                    "gets that found nothing",
                                                    "scans",
                                                    "reads of what was not durable yet",
                                                    "operations lost in crashes",
                                                    "damaged records healed",
                                                    "purges of a partition",
                                                    "stamps below a purge floor",
                                                    "absences behind a purge floor",
                                                    "dropped past their deadline"};
static const char *const trace_text[] = {"",
                                         "remote clocks not adopted",
                                         "waits for the clock",
                                         "stamped anew",
                                         "read repairs",
                                         "records found corrupt",
                                         "requests shed",
                                         "hedged reads"};

static void run_seed(struct report *r, uint64_t seed)
{
    uint64_t hash, again, us;
    char why[512];

    r->options.seed = seed;
    r->n_seeds++;
    if (!sim_run(&r->options, &r->stats, &hash, &us, why)) {
        r->n_failed++;
        printf("seed %llu FAILED at %.3f s: %s\n", (unsigned long long)seed, (double)us / 1e6, why);
        return;
    }
    r->simulated_us += us;
    if (r->twice) {
        struct stats ignored = {0};

        if (!sim_run(&r->options, &ignored, &again, &us, why) || again != hash) {
            r->n_failed++;
            printf("seed %llu is not repeatable: %016llx, then %016llx\n", (unsigned long long)seed,
                   (unsigned long long)hash, (unsigned long long)again);
        }
    }
    if (r->options.trace || r->n_seeds == 1)
        printf("seed %llu: event hash %016llx\n", (unsigned long long)seed,
               (unsigned long long)hash);
}

static int run_file(struct report *r, const char *path)
{
    FILE *f = fopen(path, "r");
    char line[256];

    if (!f) {
        perror(path);
        return 2;
    }
    while (fgets(line, sizeof(line), f))
        if (line[0] >= '0' && line[0] <= '9')
            run_seed(r, strtoull(line, NULL, 10));
    fclose(f);
    return 0;
}

static void run_minutes(struct report *r, double minutes)
{
    time_t end = time(NULL) + (time_t)(minutes * 60);
    uint64_t seed = (uint64_t)time(NULL) * 1000003;

    printf("fresh seeds from %llu\n", (unsigned long long)seed);
    while (time(NULL) < end && r->n_failed == 0)
        run_seed(r, seed++);
}

/* Prints the table; returns how many of its lines are zero. */
static int summary(const struct report *r)
{
    double cpu = (double)(clock() - r->began) / CLOCKS_PER_SEC;
    int zeros = 0;

    for (uint32_t i = 0; i < N_FAULTS; i++) {
        zeros += r->stats.faults[i] == 0;
        if (!r->quiet)
            printf("  %-45s %8llu seeds\n", fault_text(i), (unsigned long long)r->stats.faults[i]);
    }
    for (uint32_t i = 0; i < COVER_TRACE + sizeof(trace_text) / sizeof(trace_text[0]); i++) {
        const char *text = i < COVER_TRACE ? cover_text[i] : trace_text[i - COVER_TRACE];

        if (!text || !text[0])
            continue;
        zeros += r->stats.covers[i] == 0;
        if (!r->quiet)
            printf("  %-45s %8llu\n", text, (unsigned long long)r->stats.covers[i]);
    }
    printf("%llu seeds, %llu failed; %llu requests, %llu messages, %llu events; %.0f simulated "
           "seconds in %.1f s of CPU (%.0f:1)\n",
           (unsigned long long)r->n_seeds, (unsigned long long)r->n_failed,
           (unsigned long long)r->stats.n_requests, (unsigned long long)r->stats.n_messages,
           (unsigned long long)r->stats.n_items, (double)r->simulated_us / 1e6, cpu,
           (double)r->simulated_us / 1e6 / (cpu > 0 ? cpu : 1));
    return zeros;
}

static int usage(void)
{
    fputs("usage: sim --seed N | --seeds A..B | --file PATH | --minutes M\n"
          "           [--nodes N] [--trace] [--twice] [--quiet] [--first] [--purge]\n",
          stderr);
    return 2;
}

/* Options that take no part in which seeds are run. Returns how many words it took, or 0. */
static int setting(struct report *r, char **argv, int left)
{
    if (strcmp(argv[0], "--trace") == 0)
        return r->options.trace = true;
    if (strcmp(argv[0], "--purge") == 0)
        return r->options.purge = true;
    if (strcmp(argv[0], "--twice") == 0)
        return r->twice = true;
    if (strcmp(argv[0], "--quiet") == 0)
        return r->quiet = true;
    if (strcmp(argv[0], "--first") == 0)
        return r->first = true;
    if (strcmp(argv[0], "--nodes") == 0 && left > 1 && atoi(argv[1]) >= 1 &&
        atoi(argv[1]) <= (int)SIM_NODES_MAX) {
        r->options.n_nodes = (uint32_t)atoi(argv[1]);
        return 2;
    }
    return 0;
}

static int run_range(struct report *r, const char *text)
{
    char *end;
    uint64_t from = strtoull(text, &end, 10), to = from;

    if (end[0] == '.' && end[1] == '.')
        to = strtoull(end + 2, &end, 10);
    if (*end || to < from)
        return usage();
    for (uint64_t seed = from; seed <= to && !(r->first && r->n_failed); seed++)
        run_seed(r, seed);
    return 0;
}

static int run_choice(struct report *r, const char *option, const char *value)
{
    if (strcmp(option, "--seed") == 0 || strcmp(option, "--seeds") == 0)
        return run_range(r, value);
    if (strcmp(option, "--file") == 0)
        return run_file(r, value);
    if (strcmp(option, "--minutes") == 0) {
        run_minutes(r, atof(value));
        return 0;
    }
    return usage();
}

int main(int argc, char **argv)
{
    struct report r = {.began = clock()};
    const char *option = NULL, *value = NULL;
    int zeros, result;

    /* Workers' tables are large and hardly touched: keep them in maps, which come zeroed for free.
     */
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc;) {
        int taken = setting(&r, argv + i, argc - i);

        if (!taken && (option || i + 1 >= argc))
            return usage();
        if (!taken) {
            option = argv[i];
            value = argv[i + 1];
            taken = 2;
        }
        i += taken;
    }
    if (!option)
        return usage();
    result = run_choice(&r, option, value);
    if (result)
        return result;
    zeros = summary(&r);
    if (r.n_seeds >= 100 && zeros > 0) {
        printf("something that should have happened never did: see the zeros\n");
        return 1;
    }
    return r.n_failed ? 1 : 0;
}
