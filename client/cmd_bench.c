/* cmd_bench: options, threads, and the result of `quoit bench` (bench.h). */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "client/bench.h"
#include "client/bench_assert.h"
#include "client/progress.h"
#include "client/text.h"

#define BENCH_CLIENTS_MAX 4096u
#define BENCH_DEPTH_MAX 1024u
#define BENCH_THREADS_MAX 64u
#define BENCH_HANDS_MAX (1u << 20)
#define VALUE_SPREAD 4096u /* as in bench_run.c: values start anywhere in so many bytes */
#define PROGRESS_MS 100

enum phase {
    PHASE_LOAD,
    PHASE_RUN
};

struct team {
    struct bench bench;
    const struct bench_config *config;
    struct bench_thread *threads[BENCH_THREADS_MAX];
    struct bench_stats *stats; /* merged */
    double seconds, client_cpu;
};

/* ---- options ----------------------------------------------------------------------------- */

static int parse_mix(const struct cli *cli, struct bench_config *c)
{
    static const struct {
        uint64_t reads;
        enum bench_distribution distribution;
        char mix;
    } mixes[] = {{50, BENCH_ZIPF, 'a'},
                 {95, BENCH_ZIPF, 'b'},
                 {100, BENCH_ZIPF, 'c'},
                 {95, BENCH_LATEST, 'd'},
                 {50, BENCH_ZIPF, 'f'}};
    const char *name = cli->opt.of[OPT_MIX];
    size_t i;

    if (!name)
        return CLI_OK;
    if (cli->opt.of[OPT_READS])
        return report_usage(cli, "--mix says how many reads; leave out --reads");
    for (i = 0; i < sizeof(mixes) / sizeof(mixes[0]); i++) {
        if (name[0] == mixes[i].mix && !name[1]) {
            c->mix = mixes[i].mix;
            c->reads = mixes[i].reads;
            c->distribution = mixes[i].distribution;
            return CLI_OK;
        }
    }
    return report_usage(cli, "--mix %s: it is a, b, c, d or f%s", name,
                        !strcmp(name, "e") ? " (e needs range scans)" : "");
}

static int parse_distribution(const struct cli *cli, struct bench_config *c)
{
    const char *name = cli->opt.of[OPT_DISTRIBUTION];

    if (!name)
        return CLI_OK;
    if (!strcmp(name, "uniform"))
        c->distribution = BENCH_UNIFORM;
    else if (!strcmp(name, "zipf"))
        c->distribution = BENCH_ZIPF;
    else if (!strcmp(name, "latest"))
        c->distribution = BENCH_LATEST;
    else
        return report_usage(cli, "--distribution %s: it is uniform, zipf or latest", name);
    return CLI_OK;
}

static int parse_numbers(const struct cli *cli, struct bench_config *c)
{
    const struct {
        enum opt_id id;
        uint64_t min, max, *to;
    } numbers[] = {
        {OPT_READS, 0, 100, &c->reads},
        {OPT_KEYS, 1, BENCH_KEYS_MAX, &c->keys},
        {OPT_VALUE_SIZE, 0, QUOIT_VALUE_BYTES_MAX, &c->value_size},
        {OPT_CLIENTS, 1, BENCH_CLIENTS_MAX, &c->clients},
        {OPT_DEPTH, 1, BENCH_DEPTH_MAX, &c->depth},
        {OPT_THREADS, 1, BENCH_THREADS_MAX, &c->threads},
        {OPT_SEED, 0, UINT64_MAX / 2000000, &c->seed},
        {OPT_RATE, 1, 100000000, &c->rate},
    };
    size_t i;
    int code = CLI_OK;

    for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]) && code == CLI_OK; i++)
        code = cli_number(cli, numbers[i].id, numbers[i].min, numbers[i].max, numbers[i].to);
    return code;
}

static int parse_config(const struct cli *cli, struct bench_config *c)
{
    char message[256];
    int code = parse_mix(cli, c);

    if (code == CLI_OK)
        code = parse_distribution(cli, c);
    if (code == CLI_OK)
        code = parse_numbers(cli, c);
    if (code == CLI_OK)
        code = cli_duration_us(cli, OPT_DURATION, &c->duration_us);
    if (code == CLI_OK)
        code = cli_duration_us(cli, OPT_WARMUP, &c->warmup_us);
    if (code != CLI_OK)
        return code;
    if (cli->opt.of[OPT_PREFIX])
        c->prefix = cli->opt.of[OPT_PREFIX];
    if (strlen(c->prefix) > BENCH_PREFIX_MAX)
        return report_usage(cli, "--prefix: at most %d bytes", BENCH_PREFIX_MAX);
    c->no_load = cli->opt.of[OPT_NO_LOAD] != NULL;
    c->repeat = cli->opt.of[OPT_REPEAT] != NULL;
    if (c->duration_us == 0 || c->duration_us > 86400000000ull)
        return report_usage(cli, "--duration: a time up to 24h");
    if (c->clients * c->depth > BENCH_HANDS_MAX)
        return report_usage(cli, "--clients x --depth: at most %u together", BENCH_HANDS_MAX);
    if (c->threads > c->clients)
        c->threads = c->clients;
    if (cli->opt.of[OPT_ASSERT] &&
        bench_assert(cli->opt.of[OPT_ASSERT], NULL, message, sizeof(message)) < 0)
        return report_usage(cli, "--assert: %s", message);
    return CLI_OK;
}

/* ---- threads ----------------------------------------------------------------------------- */

struct task {
    struct team *team;
    enum phase phase;
    uint64_t index;
    int code;
    atomic_bool done;
    pthread_t id;
};

static void *run_task(void *ctx)
{
    struct task *task = ctx;
    const struct bench_config *c = task->team->config;
    struct bench_thread *t = task->team->threads[task->index];
    uint64_t first = c->keys * task->index / c->threads;
    uint64_t end = c->keys * (task->index + 1) / c->threads;

    if (task->phase == PHASE_LOAD)
        task->code = bench_thread_load(t, first, end - first);
    else
        bench_thread_run(t);
    atomic_store(&task->done, true);
    return NULL;
}

static bool all_done(struct task *tasks, uint64_t n)
{
    uint64_t i;

    for (i = 0; i < n; i++) {
        if (!atomic_load(&tasks[i].done))
            return false;
    }
    return true;
}

static void watch(struct team *team, struct task *tasks, const char *what, uint64_t all_ns,
                  uint64_t all_ops)
{
    uint64_t start = clock_ns(), n;
    struct progress p;
    double took;

    progress_init(&p, team->bench.cli, what);
    while (p.shown && !all_done(tasks, team->config->threads)) {
        usleep(PROGRESS_MS * 1000); /* nothing depends on it: it only paces the drawing */
        n = atomic_load(&team->bench.n_done);
        took = (double)(clock_ns() - start);
        progress_show(&p, all_ops ? (double)n / (double)all_ops : took / (double)all_ns, n,
                      (double)n / (took / 1e9));
    }
    progress_clear(&p);
}

static int run_phase(struct team *team, enum phase phase)
{
    const struct bench_config *c = team->config;
    struct task tasks[BENCH_THREADS_MAX];
    uint64_t i;
    int code = CLI_OK;

    atomic_store(&team->bench.n_done, 0);
    for (i = 0; i < c->threads; i++) {
        tasks[i] = (struct task){.team = team, .phase = phase, .index = i};
        if (pthread_create(&tasks[i].id, NULL, run_task, &tasks[i]) != 0) {
            report("bench: cannot start a thread");
            exit(CLI_ERROR); /* the others cannot be called back */
        }
    }
    watch(team, tasks, phase == PHASE_LOAD ? "bench: loading" : "bench",
          (c->warmup_us + c->duration_us) * 1000, phase == PHASE_LOAD ? c->keys : 0);
    for (i = 0; i < c->threads; i++) {
        pthread_join(tasks[i].id, NULL);
        code = code == CLI_OK ? tasks[i].code : code;
    }
    return code;
}

/* ---- result ------------------------------------------------------------------------------ */

static void merge(struct team *team)
{
    struct bench_stats *all = team->stats;
    const struct bench_stats *s;
    uint64_t i, j;

    for (i = 0; i < team->config->threads; i++) {
        s = bench_thread_stats(team->threads[i]);
        all->errors += s->errors;
        all->not_found += s->not_found;
        for (j = 0; j < BENCH_ERROR_CODES; j++)
            all->error_codes[j] += s->error_codes[j];
        histogram_merge(&all->reads, &s->reads);
        histogram_merge(&all->writes, &s->writes);
        if (s->last_ns > all->last_ns)
            all->last_ns = s->last_ns;
    }
}

static void set_latency(json_t *o, const struct histogram *h)
{
    json_object_set_new(o, "p50_us", json_real((double)histogram_quantile(h, 0.5) / 1e3));
    json_object_set_new(o, "p99_us", json_real((double)histogram_quantile(h, 0.99) / 1e3));
    json_object_set_new(o, "p999_us", json_real((double)histogram_quantile(h, 0.999) / 1e3));
    json_object_set_new(o, "max_us", json_real((double)h->max / 1e3));
}

static json_t *side_json(const struct team *team, const struct histogram *h)
{
    json_t *o = json_object();

    json_object_set_new(o, "ops", json_integer((json_int_t)h->count));
    json_object_set_new(o, "ops_per_s", json_real((double)h->count / team->seconds));
    set_latency(o, h);
    return o;
}

static json_t *codes_json(const struct bench_stats *s)
{
    json_t *o = json_object();
    int i;

    for (i = 0; i < BENCH_ERROR_CODES; i++) {
        if (s->error_codes[i])
            json_object_set_new(o, quoit_error_name(i),
                                json_integer((json_int_t)s->error_codes[i]));
    }
    return o;
}

static void set_config(json_t *o, const struct bench_config *c)
{
    static const char *const distributions[] = {"uniform", "zipf", "latest"};
    char mix[2] = {c->mix, '\0'};

    if (c->mix)
        json_object_set_new(o, "mix", json_string(mix));
    json_object_set_new(o, "reads_percent", json_integer((json_int_t)c->reads));
    json_object_set_new(o, "keys", json_integer((json_int_t)c->keys));
    json_object_set_new(o, "value_size", json_integer((json_int_t)c->value_size));
    json_object_set_new(o, "clients", json_integer((json_int_t)c->clients));
    json_object_set_new(o, "depth", json_integer((json_int_t)c->depth));
    json_object_set_new(o, "distribution", json_string(distributions[c->distribution]));
    json_object_set_new(o, "rate", json_integer((json_int_t)c->rate));
}

static json_t *result_json(const struct team *team)
{
    const struct bench_stats *s = team->stats;
    struct histogram *all = calloc(1, sizeof(*all));
    json_t *o = json_object();

    if (!all)
        return o;
    histogram_merge(all, &s->reads);
    histogram_merge(all, &s->writes);
    json_object_set_new(o, "ops", json_integer((json_int_t)all->count));
    json_object_set_new(o, "seconds", json_real(team->seconds));
    json_object_set_new(o, "ops_per_s", json_real((double)all->count / team->seconds));
    json_object_set_new(o, "errors", json_integer((json_int_t)s->errors));
    json_object_set_new(o, "not_found", json_integer((json_int_t)s->not_found));
    set_latency(o, all);
    json_object_set_new(o, "reads", side_json(team, &s->reads));
    json_object_set_new(o, "writes", side_json(team, &s->writes));
    json_object_set_new(o, "error_codes", codes_json(s));
    json_object_set_new(o, "client_cpu_seconds", json_real(team->client_cpu));
    set_config(o, team->config);
    free(all);
    return o;
}

static void print_side(const char *name, const json_t *o)
{
    static const char *const columns[] = {"p50_us", "p99_us", "p999_us", "max_us"};
    char text[32];
    size_t i;

    text_show_count((uint64_t)json_number_value(json_object_get(o, "ops")), text, sizeof(text));
    printf("%-7s %12s", name, text);
    text_show_count((uint64_t)json_number_value(json_object_get(o, "ops_per_s")), text,
                    sizeof(text));
    printf(" %11s", text);
    for (i = 0; i < 4; i++) {
        text_show_us((uint64_t)(json_number_value(json_object_get(o, columns[i])) + 0.5), text,
                     sizeof(text));
        printf(" %10s", text);
    }
    putchar('\n');
}

static void print_table(const struct team *team, const json_t *o)
{
    const struct bench_config *c = team->config;
    const struct bench_stats *s = team->stats;
    char count[32];
    int i;

    text_show_count(s->reads.count + s->writes.count, count, sizeof(count));
    printf("%s operations in %.1f s, %" PRIu64 " errors, %" PRIu64 " not found\n\n", count,
           team->seconds, s->errors, s->not_found);
    printf("%-7s %12s %11s %10s %10s %10s %10s\n", "", "OPS", "OPS/S", "P50", "P99", "P99.9",
           "MAX");
    print_side("all", o);
    print_side("reads", json_object_get(o, "reads"));
    print_side("writes", json_object_get(o, "writes"));
    printf("\n%" PRIu64 " keys of %" PRIu64 " bytes, %" PRIu64 " clients x %" PRIu64 ", %" PRIu64
           " %% reads",
           c->keys, c->value_size, c->clients, c->depth, c->reads);
    if (c->rate)
        printf(", open loop at %" PRIu64 "/s", c->rate);
    printf("\nthis client used %.1f s of CPU\n", team->client_cpu);
    for (i = 0; i < BENCH_ERROR_CODES; i++) {
        if (s->error_codes[i])
            printf("%10" PRIu64 " x %s: %s\n", s->error_codes[i], quoit_error_name(i),
                   quoit_error_text(i));
    }
}

static int print_result(struct team *team)
{
    struct cli *cli = team->bench.cli;
    json_t *o = result_json(team);
    char message[256];
    int code = CLI_OK, r;

    if (cli->output == OUTPUT_JSON || cli->output == OUTPUT_JSONL)
        cli_json_print(cli, json_incref(o));
    else
        print_table(team, o);
    if (team->stats->reads.count + team->stats->writes.count == 0) {
        report("bench: not one operation succeeded");
        code = CLI_ERROR;
    }
    if (cli->opt.of[OPT_ASSERT]) {
        r = bench_assert(cli->opt.of[OPT_ASSERT], o, message, sizeof(message));
        if (r != 1)
            report("bench: assertion failed: %s", message);
        code = r == 1 ? code : r == 0 ? CLI_ASSERTION : CLI_USAGE;
    }
    json_decref(o);
    return interrupted() ? CLI_INTERRUPTED : code;
}

/* ---- the whole --------------------------------------------------------------------------- */

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int prepare(struct team *team)
{
    const struct bench_config *c = team->config;
    struct bench_random random;
    uint64_t i, n = c->value_size + VALUE_SPREAD;
    int code = CLI_OK;

    team->stats = calloc(1, sizeof(*team->stats));
    team->bench.values = malloc(n + sizeof(uint64_t));
    team->bench.inserts = calloc(1, sizeof(*team->bench.inserts));
    if (!team->stats || !team->bench.values || !team->bench.inserts) {
        report("bench: out of memory");
        return CLI_ERROR;
    }
    bench_random_init(&random, c->seed);
    for (i = 0; i < n; i += sizeof(uint64_t)) {
        uint64_t word = bench_random_next(&random);

        memcpy(team->bench.values + i, &word, sizeof(word));
    }
    if (c->distribution != BENCH_UNIFORM)
        bench_zipf_init(&team->bench.zipf, c->keys);
    bench_inserts_init(team->bench.inserts, c->keys);
    for (i = 0; i < c->threads && code == CLI_OK; i++)
        code = bench_thread_new(&team->bench, i, &team->threads[i]);
    return code;
}

static int measure(struct team *team)
{
    const struct bench_config *c = team->config;
    uint64_t now = clock_ns();
    double cpu = cpu_seconds();

    team->bench.start_ns = now + c->warmup_us * 1000;
    team->bench.stop_ns = team->bench.start_ns + c->duration_us * 1000;
    run_phase(team, PHASE_RUN);
    team->client_cpu = cpu_seconds() - cpu;
    merge(team);
    now = clock_ns();
    if (interrupted() && now < team->bench.stop_ns)
        team->bench.stop_ns = now;
    /* Closed loop: the window. Open loop: what succeeded late was done in more than the window. */
    if (!c->rate || team->stats->last_ns < team->bench.stop_ns)
        team->stats->last_ns = team->bench.stop_ns;
    team->seconds = (double)(team->stats->last_ns - team->bench.start_ns) / 1e9;
    if (team->stats->last_ns <= team->bench.start_ns)
        return CLI_INTERRUPTED; /* before anything was measured */
    return print_result(team);
}

int cmd_bench(struct cli *cli)
{
    struct bench_config config = {.reads = 50,
                                  .keys = 100000,
                                  .value_size = 100,
                                  .clients = 50,
                                  .depth = 1,
                                  .threads = 1,
                                  .seed = 1,
                                  .duration_us = 5000000,
                                  .warmup_us = 1000000,
                                  .prefix = "bench:"};
    struct team team = {.bench = {.cli = cli, .config = &config}, .config = &config};
    int code = parse_config(cli, &config);
    uint64_t i;

    if (code == CLI_OK)
        code = prepare(&team);
    if (code == CLI_OK) {
        interrupt_catch();
        if (!config.no_load)
            code = run_phase(&team, PHASE_LOAD);
    }
    if (code == CLI_OK)
        code = measure(&team);
    for (i = 0; i < BENCH_THREADS_MAX; i++)
        bench_thread_free(team.threads[i]);
    free(team.bench.values);
    free(team.bench.inserts);
    free(team.stats);
    return code;
}
