/* memtable_bench: what a put, a get and a step of a walk cost in a memtable, on one core.
 *
 *   memtable_bench [ENTRIES [ROUNDS]]        (300000, 5)
 *
 * Keys as the store has them: token, bucket, a name of 12 bytes; values of 100 bytes. "spread" has
 * tokens like hashes, put in random order; "ascending" the same ones in their order; "one token"
 * is a single partition with that many sort keys, where words tell nothing apart. Gets and misses
 * come in another random order than the puts. A reservation of one is part of each put. Prints the
 * best of the rounds, since whatever else runs only adds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "storage/memtable.h"
#include "storage/record.h"

#define VALUE_BYTES 100u
#define NAME_BYTES 12u

enum shape {
    SPREAD,
    ASCENDING,
    ONE_TOKEN,
    N_SHAPES
};

static const char *const shape_name[N_SHAPES] = {"spread", "ascending", "one token"};

struct key_bytes {
    uint8_t bytes[STORE_KEY_HEADER_BYTES + NAME_BYTES + 1];
    uint8_t len;
};

struct figures {
    double put_ns, get_ns, miss_ns, walk_ns, free_ns, bytes;
};

struct bench {
    struct key_bytes *put, *present, *absent; /* in the order of use */
    uint32_t n;
    uint64_t random;
};

static void die(const char *what)
{
    fprintf(stderr, "memtable_bench: %s\n", what);
    exit(1);
}

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint32_t random_below(struct bench *b, uint32_t n)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return (uint32_t)((b->random >> 32) * n >> 32);
}

static void make_key(struct key_bytes *k, enum shape shape, uint32_t i, uint32_t n)
{
    char name[NAME_BYTES + 1];
    uint64_t token = 42;
    struct key key = {.bucket = BUCKET_DEFAULT, .partition = slice_str("p")};

    snprintf(name, sizeof(name), "user%08u", i);
    if (shape == ASCENDING)
        token = i * (UINT64_MAX / n / 2);
    else if (shape == SPREAD)
        token = i * 0x9e3779b97f4a7c15u;
    if (shape == ONE_TOKEN)
        key.sort = slice_str(name);
    else
        key.partition = slice_str(name);
    k->len = (uint8_t)store_key_encode(token, &key, k->bytes);
}

static void shuffle(struct bench *b, struct key_bytes *keys)
{
    for (uint32_t i = b->n; i-- > 1;) {
        uint32_t j = random_below(b, i + 1);
        struct key_bytes k = keys[i];

        keys[i] = keys[j];
        keys[j] = k;
    }
}

static void prepare(struct bench *b, enum shape shape)
{
    for (uint32_t i = 0; i < b->n; i++) {
        make_key(&b->put[i], shape, 2 * i, b->n);
        make_key(&b->absent[i], shape, 2 * i + 1, b->n);
    }
    if (shape != ASCENDING)
        shuffle(b, b->put);
    memcpy(b->present, b->put, b->n * sizeof(*b->put));
    shuffle(b, b->present);
    shuffle(b, b->absent);
}

static void put_all(const struct bench *b, struct memtable *m)
{
    static const uint8_t value[VALUE_BYTES];
    struct state s = {.kind = STATE_LWW, .value = {value, sizeof(value)}};

    for (uint32_t i = 0; i < b->n; i++) {
        const struct key_bytes *k = &b->put[i];

        if (memtable_reserve(m, 1, k->len + sizeof(value)) != 0)
            die("out of memory");
        s.version.hlc = i;
        memtable_put(m, slice_of(k->bytes, k->len), &s, i + 1, NULL);
    }
}

static uint32_t get_all(const struct bench *b, const struct memtable *m, const struct key_bytes *of)
{
    uint32_t n_found = 0;

    for (uint32_t i = 0; i < b->n; i++) {
        const struct key_bytes *k = &of[i];
        const struct memtable_entry *e = memtable_get(m, slice_of(k->bytes, k->len));

        n_found += e && e->value_len == VALUE_BYTES;
    }
    return n_found;
}

static uint32_t walk_all(const struct memtable *m)
{
    struct memtable_iter it;
    uint32_t n = 0;

    for (memtable_seek(m, slice_of(NULL, 0), &it); it.entry; memtable_next(&it))
        n += it.entry->value_len == VALUE_BYTES;
    return n;
}

static struct figures run(const struct bench *b)
{
    struct memtable *m = memtable_new();
    struct figures f;
    double n = b->n, t[6];

    if (!m)
        die("out of memory");
    t[0] = now_ns();
    put_all(b, m);
    t[1] = now_ns();
    if (get_all(b, m, b->present) != b->n)
        die("a record is missing");
    t[2] = now_ns();
    if (get_all(b, m, b->absent) != 0)
        die("a record is there that was not put");
    t[3] = now_ns();
    if (walk_all(m) != b->n)
        die("the walk is wrong");
    t[4] = now_ns();
    f.bytes = (double)memtable_bytes(m) / n;
    memtable_free(m);
    t[5] = now_ns();
    f.put_ns = (t[1] - t[0]) / n;
    f.get_ns = (t[2] - t[1]) / n;
    f.miss_ns = (t[3] - t[2]) / n;
    f.walk_ns = (t[4] - t[3]) / n;
    f.free_ns = (t[5] - t[4]) / n;
    return f;
}

static void keep_least(double *best, double d)
{
    if (d < *best)
        *best = d;
}

static void run_rounds(struct bench *b, enum shape shape, unsigned rounds)
{
    struct figures best;

    prepare(b, shape);
    best = run(b);
    while (--rounds > 0) {
        struct figures f = run(b);

        keep_least(&best.put_ns, f.put_ns);
        keep_least(&best.get_ns, f.get_ns);
        keep_least(&best.miss_ns, f.miss_ns);
        keep_least(&best.walk_ns, f.walk_ns);
        keep_least(&best.free_ns, f.free_ns);
    }
    printf("%-10s %9u %6.0f %6.0f %6.0f %6.1f %6.1f %8.1f\n", shape_name[shape], b->n, best.put_ns,
           best.get_ns, best.miss_ns, best.walk_ns, best.free_ns, best.bytes);
}

int main(int argc, char **argv)
{
    struct bench b = {.n = 300000, .random = 88172645463325252u};
    unsigned rounds = 5;

    if (argc > 1)
        b.n = (uint32_t)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        rounds = (unsigned)strtoul(argv[2], NULL, 10);
    if (b.n < 1 || b.n > 50000000 || rounds < 1)
        die("usage: memtable_bench [ENTRIES (1 .. 50000000) [ROUNDS]]");
    b.present = calloc(b.n, sizeof(*b.present));
    b.absent = calloc(b.n, sizeof(*b.absent));
    b.put = calloc(b.n, sizeof(*b.put));
    if (!b.present || !b.absent || !b.put)
        die("out of memory");
    printf("ns per      entries    put    get   miss   walk   free  B/entry\n");
    for (enum shape shape = 0; shape < N_SHAPES; shape++)
        run_rounds(&b, shape, rounds);
    free(b.present);
    free(b.absent);
    free(b.put);
    return 0;
}
