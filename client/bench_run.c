/* bench_run: one thread of the load (bench.h). */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

#include "client/bench.h"
#include "client/progress.h"

#define INSERT_PERCENT 5u  /* mix d */
#define VALUE_SPREAD 4096u /* values start anywhere in so many bytes */
#define POLL_MS 100
#define PROGRESS_BATCH 256u

enum op_kind {
    OP_READ,
    OP_WRITE,
    OP_INSERT,
    OP_RMW_READ,
    OP_RMW_WRITE
};

/* One operation under way, or a client's free hand. */
struct hand {
    struct bench_thread *thread;
    struct hand *next_idle;
    uint64_t start_ns; /* when it started, or should have */
    uint64_t key;
    uint32_t lane;
    enum op_kind kind;
};

struct bench_thread {
    struct bench *bench;
    struct quoit *q;
    struct hand *hands, *idle;
    uint64_t n_hands, n_busy;
    struct bench_random random;
    uint64_t next_ns, gap_ns; /* open loop: when the next operation is due */
    uint64_t now_ns;          /* of this wake-up */
    uint64_t n_counted;
    bool stopping;
    struct bench_stats stats;
    int load_code;
    struct quoit_result load_result;
    char load_text[256];
    char load_key[BENCH_PREFIX_MAX + BENCH_KEY_DIGITS];
    size_t prefix_len;
    char key[BENCH_PREFIX_MAX + BENCH_KEY_DIGITS];
};

static void begin(struct hand *h, uint64_t start_ns);
static void finish(struct quoit *q, const struct quoit_result *r, void *ctx);

/* ---- what to do -------------------------------------------------------------------------- */

static enum op_kind choose_kind(struct bench_thread *t)
{
    const struct bench_config *c = t->bench->config;
    bool read = bench_random_next(&t->random) % 100 < c->reads;

    if (read)
        return OP_READ;
    return c->mix == 'd' ? OP_INSERT : c->mix == 'f' ? OP_RMW_READ : OP_WRITE;
}

static void choose_key(struct bench_thread *t, struct hand *h)
{
    struct bench *b = t->bench;

    if (h->kind == OP_INSERT && bench_inserts_take(b->inserts, &h->key))
        return;
    if (h->kind == OP_INSERT)
        h->kind = OP_WRITE; /* one insert hangs while a million others went by */
    h->key = bench_key_next(&t->random, b->config->distribution, &b->zipf,
                            atomic_load(&b->inserts->stored));
}

static const void *choose_value(struct bench_thread *t)
{
    return t->bench->values + bench_random_next(&t->random) % VALUE_SPREAD;
}

static int send(struct hand *h)
{
    struct bench_thread *t = h->thread;
    const struct bench_config *c = t->bench->config;
    struct quoit_options o = {.lane = h->lane, .flags = c->repeat ? QUOIT_REPEAT : 0};
    size_t key_len = t->prefix_len + BENCH_KEY_DIGITS;

    bench_key_write(t->key + t->prefix_len, h->key);
    if (h->kind == OP_READ || h->kind == OP_RMW_READ)
        return quoit_get_async(t->q, t->key, key_len, &o, finish, h);
    return quoit_put_async(t->q, t->key, key_len, choose_value(t), c->value_size, &o, finish, h);
}

/* ---- measuring --------------------------------------------------------------------------- */

static void count(struct bench_thread *t, const struct hand *h, int code)
{
    struct bench_stats *s = &t->stats;
    uint64_t took = t->now_ns > h->start_ns ? t->now_ns - h->start_ns : 0;

    if (++t->n_counted % PROGRESS_BATCH == 0)
        atomic_fetch_add_explicit(&t->bench->n_done, PROGRESS_BATCH, memory_order_relaxed);
    if (h->start_ns < t->bench->start_ns || h->start_ns >= t->bench->stop_ns)
        return; /* warming up */
    if (code < 0) {
        s->errors++;
        s->error_codes[-code < BENCH_ERROR_CODES ? -code : 0]++;
        return;
    }
    s->last_ns = t->now_ns;
    s->not_found += code == QUOIT_NOT_FOUND;
    histogram_add(h->kind == OP_READ || h->kind == OP_RMW_READ ? &s->reads : &s->writes, took);
}

static void idle(struct hand *h)
{
    struct bench_thread *t = h->thread;

    t->n_busy--;
    h->next_idle = t->idle;
    t->idle = h;
}

static void start_due(struct bench_thread *t)
{
    struct hand *h;

    while (t->idle && t->next_ns <= t->now_ns && t->next_ns < t->bench->stop_ns) {
        h = t->idle;
        t->idle = h->next_idle;
        t->n_busy++;
        begin(h, t->next_ns);
        t->next_ns += t->gap_ns;
    }
}

static void finish(struct quoit *q, const struct quoit_result *r, void *ctx)
{
    struct hand *h = ctx;
    struct bench_thread *t = h->thread;

    (void)q;
    t->now_ns = clock_ns();
    count(t, h, r->code);
    if (h->kind == OP_INSERT)
        bench_inserts_stored(t->bench->inserts, h->key); /* a failed one will be "not found" */
    if (t->stopping) {
        idle(h);
        return;
    }
    if (h->kind == OP_RMW_READ && r->code >= 0) {
        h->kind = OP_RMW_WRITE;
        h->start_ns = t->now_ns;
        if (send(h) == 0)
            return;
    }
    if (t->gap_ns) {
        idle(h);
        start_due(t);
    } else if (t->now_ns < t->bench->stop_ns) {
        begin(h, t->now_ns);
    } else {
        idle(h);
    }
}

static void begin(struct hand *h, uint64_t start_ns)
{
    struct bench_thread *t = h->thread;
    int r;

    h->kind = choose_kind(t);
    choose_key(t, h);
    h->start_ns = start_ns;
    r = send(h);
    if (r < 0) { /* out of memory: the table has a slot for each hand */
        count(t, h, r);
        idle(h);
    }
}

/* ---- running ----------------------------------------------------------------------------- */

/* Open loop: sleeps until an answer is there or the next operation is due, to the microsecond. */
static void wait_due(struct bench_thread *t)
{
    struct pollfd fd = {.fd = quoit_fd(t->q), .events = POLLIN};
    uint64_t until = t->idle ? t->next_ns : t->now_ns + POLL_MS * 1000000ull;
    struct timespec gap = {0};
    int library_ms = quoit_wait_ms(t->q);

    if (library_ms == 0 || until <= t->now_ns)
        return;
    until -= t->now_ns;
    if (library_ms > 0 && (uint64_t)library_ms * 1000000ull < until)
        until = (uint64_t)library_ms * 1000000ull;
    if (until > POLL_MS * 1000000ull)
        until = POLL_MS * 1000000ull;
    gap.tv_nsec = (long)until;
    ppoll(&fd, 1, &gap, NULL);
}

/* What could not even start within a timeout after the end: each would have failed. */
static void give_up_late(struct bench_thread *t)
{
    uint64_t n;

    if (t->next_ns >= t->bench->stop_ns || interrupted())
        return;
    n = (t->bench->stop_ns - t->next_ns) / t->gap_ns + 1;
    t->stats.errors += n;
    t->stats.error_codes[QUOIT_ERR_DEADLINE] += n;
}

static void run_open(struct bench_thread *t)
{
    uint64_t patience_ns = t->bench->cli->config.timeout_ms * 1000000ull;

    t->gap_ns = 1000000000ull * t->bench->config->threads / t->bench->config->rate;
    t->gap_ns = t->gap_ns ? t->gap_ns : 1;
    t->now_ns = t->next_ns = clock_ns();
    while (t->next_ns < t->bench->stop_ns && t->now_ns < t->bench->stop_ns + patience_ns &&
           !interrupted()) {
        start_due(t);
        quoit_poll(t->q, 0);
        t->now_ns = clock_ns();
        if (t->next_ns > t->now_ns || !t->idle)
            wait_due(t);
        t->now_ns = clock_ns();
    }
    give_up_late(t);
}

static void run_closed(struct bench_thread *t)
{
    struct hand *h;

    t->gap_ns = 0;
    t->now_ns = clock_ns();
    while ((h = t->idle)) {
        t->idle = h->next_idle;
        t->n_busy++;
        begin(h, t->now_ns);
    }
    while (t->n_busy > 0 && clock_ns() < t->bench->stop_ns && !interrupted())
        quoit_poll(t->q, POLL_MS);
}

void bench_thread_run(struct bench_thread *t)
{
    if (t->bench->config->rate)
        run_open(t);
    else
        run_closed(t);
    t->stopping = true;
    while (quoit_pending(t->q) > 0)
        quoit_poll(t->q, -1);
}

/* ---- loading ----------------------------------------------------------------------------- */

static void load_failed(struct bench_thread *t, uint64_t key, const struct quoit_result *r)
{
    t->load_code = r->code;
    t->load_result = *r;
    snprintf(t->load_text, sizeof(t->load_text), "%s", r->text);
    t->load_result.text = t->load_text;
    t->load_result.node = "";
    memcpy(t->load_key, t->key, t->prefix_len);
    bench_key_write(t->load_key + t->prefix_len, key);
}

static void on_loaded(struct quoit *q, const struct quoit_result *r, void *ctx)
{
    struct hand *h = ctx;
    struct bench_thread *t = h->thread;

    (void)q;
    idle(h);
    if (++t->n_counted % PROGRESS_BATCH == 0)
        atomic_fetch_add_explicit(&t->bench->n_done, PROGRESS_BATCH, memory_order_relaxed);
    if (r->code < 0 && t->load_code == 0)
        load_failed(t, h->key, r);
}

static void load_one(struct bench_thread *t, uint64_t key)
{
    struct quoit_options o = {.flags = QUOIT_REPEAT};
    struct quoit_result refused = {.node = "", .limit = QUOIT_KEY_BYTES_MAX};
    struct hand *h = t->idle;
    int r;

    o.lane = h->lane;
    h->key = key;
    bench_key_write(t->key + t->prefix_len, key);
    r = quoit_put_async(t->q, t->key, t->prefix_len + BENCH_KEY_DIGITS, choose_value(t),
                        t->bench->config->value_size, &o, on_loaded, h);
    if (r < 0) {
        refused.code = r;
        refused.text = quoit_error_text(r);
        load_failed(t, key, &refused);
        return;
    }
    t->idle = h->next_idle;
    t->n_busy++;
}

int bench_thread_load(struct bench_thread *t, uint64_t first, uint64_t n)
{
    uint64_t i;

    for (i = 0; i < n && t->load_code == 0 && !interrupted(); i++) {
        while (!t->idle)
            quoit_poll(t->q, POLL_MS);
        if (t->load_code == 0)
            load_one(t, first + i);
    }
    while (quoit_pending(t->q) > 0)
        quoit_poll(t->q, -1);
    if (t->load_code < 0)
        return report_result(t->bench->cli, "bench: loading",
                             slice_of(t->load_key, t->prefix_len + BENCH_KEY_DIGITS),
                             &t->load_result);
    return interrupted() ? CLI_INTERRUPTED : CLI_OK;
}

/* ---- life -------------------------------------------------------------------------------- */

static int connect_thread(struct bench_thread *t, uint64_t clients)
{
    struct quoit_options options = {.flags = QUOIT_FAIL_FAST};
    struct cli cli = *t->bench->cli;
    struct quoit_result r;
    int code;

    cli.config.connections = (uint32_t)clients;
    cli.config.max_requests = (uint32_t)t->n_hands;
    cli.config.max_bytes = SIZE_MAX; /* bounded by the hands */
    code = cli_connect(&cli, &t->q);
    if (code != CLI_OK)
        return code;
    if (cli.config.direct)
        quoit_ping(t->q, &options, &r);
    else
        quoit_ring(t->q, &options, &r);
    return r.code < 0 ? report_result(&cli, "bench", slice_of(NULL, 0), &r) : CLI_OK;
}

int bench_thread_new(struct bench *bench, uint64_t index, struct bench_thread **ret)
{
    const struct bench_config *c = bench->config;
    uint64_t clients = c->clients / c->threads + (index < c->clients % c->threads), i;
    struct bench_thread *t = calloc(1, sizeof(*t));
    int code;

    if (!t)
        goto no_memory;
    t->bench = bench;
    t->n_hands = clients * c->depth;
    t->hands = calloc(t->n_hands, sizeof(*t->hands));
    if (!t->hands)
        goto no_memory;
    for (i = 0; i < t->n_hands; i++) {
        t->hands[i].thread = t;
        t->hands[i].lane = 1 + (uint32_t)(i % clients);
        t->hands[i].next_idle = t->idle;
        t->idle = &t->hands[i];
    }
    bench_random_init(&t->random, c->seed * 1000003 + index);
    t->prefix_len = strlen(c->prefix);
    memcpy(t->key, c->prefix, t->prefix_len);
    code = connect_thread(t, clients);
    if (code != CLI_OK) {
        bench_thread_free(t);
        return code;
    }
    *ret = t;
    return CLI_OK;

no_memory:
    bench_thread_free(t);
    report("bench: out of memory");
    return CLI_ERROR;
}

void bench_thread_free(struct bench_thread *t)
{
    if (!t)
        return;
    quoit_free(t->q);
    free(t->hands);
    free(t);
}

const struct bench_stats *bench_thread_stats(const struct bench_thread *t)
{
    return &t->stats;
}
