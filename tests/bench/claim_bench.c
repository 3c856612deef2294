/* claim_bench: how long a claim takes, for clusters of all sizes and each kind of change.
 *
 *   claim_bench [ROUNDS]
 *
 * CPU time of one thread in milliseconds, the least of the rounds (3), with slots moved and the
 * lower bound in the same line; at the end the most memory that the process ever had. "any" is the
 * worst of some changes at once: a third of the weights, a new zone, and nodes that come and go.
 */
#include "server/core/claim.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

struct shape {
    uint32_t n_partitions, replicas, n_nodes, n_zones;
    bool weights;
};

struct cluster {
    struct shape shape;
    struct wire_member members[LIMIT_MEMBERS_MAX];
    uint32_t n_members;
    char zones[LIMIT_MEMBERS_MAX][16];
    uint32_t *table, *primary, n_slots;
};

static unsigned rounds = 3;

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void add(struct cluster *c, uint32_t zone)
{
    static const uint32_t weights[] = {1, 1, 2, 4};
    uint32_t i = c->n_members++;
    uint64_t id = (i + 1) * 0x9e3779b97f4a7c15u;

    assert(i < LIMIT_MEMBERS_MAX);
    c->members[i] = (struct wire_member){.weight = c->shape.weights ? weights[i % 4] : 1};
    memcpy(c->members[i].id.b, &id, sizeof(id));
    snprintf(c->zones[i], sizeof(c->zones[i]), "z%u", zone);
    c->members[i].zone = slice_str(c->zones[i]);
}

/* Claims; the new table becomes that of the cluster. */
static void claim_once(struct cluster *c, const char *what)
{
    struct claim_input in = {.members = c->members,
                             .n_members = c->n_members,
                             .n_partitions = c->shape.n_partitions,
                             .replicas = c->shape.replicas,
                             .table = c->n_slots ? c->table : NULL,
                             .primary = c->n_slots ? c->primary : NULL,
                             .n_slots = c->n_slots};
    struct arena arena;
    struct claim claim;
    double best = 0;

    arena_init(&arena, 16u << 20);
    for (unsigned k = 0; k < rounds; k++) {
        double before = now_ms(), took;

        arena_reset(&arena, 16u << 20);
        if (claim_compute(&in, &arena, &claim) < 0)
            abort();
        took = now_ms() - before;
        best = k == 0 || took < best ? took : best;
    }
    printf("  %-10s %8.2f ms   moved %6u   bound %6u\n", what, best, claim.moved,
           claim.lower_bound);
    c->n_slots = claim.n_slots;
    memcpy(c->table, claim.table, (size_t)c->shape.n_partitions * claim.n_slots * sizeof(uint32_t));
    memcpy(c->primary, claim.primary, c->shape.n_partitions * sizeof(uint32_t));
    arena_deinit(&arena);
}

static void any_change(struct cluster *c)
{
    for (uint32_t i = 0; i < c->n_members; i += 3)
        if (c->members[i].weight > 0)
            c->members[i].weight = c->members[i].weight % 4 + 1;
    for (uint32_t i = 0; i < 4 && i < c->shape.n_nodes / 4; i++) {
        c->members[i + 1].weight = 0;
        add(c, c->shape.n_zones);
    }
}

static void run(struct shape shape)
{
    struct cluster *c = calloc(1, sizeof(*c));

    assert(c);
    c->shape = shape;
    c->table = calloc((size_t)shape.n_partitions * LIMIT_SLOTS_MAX, sizeof(uint32_t));
    c->primary = calloc(shape.n_partitions, sizeof(uint32_t));
    assert(c->table && c->primary);
    printf("%u partitions x %u, %u nodes, %u zones%s\n", shape.n_partitions, shape.replicas,
           shape.n_nodes, shape.n_zones, shape.weights ? ", weights 1 1 2 4" : "");
    for (uint32_t i = 0; i < shape.n_nodes; i++)
        add(c, i % shape.n_zones);
    claim_once(c, "fresh");
    claim_once(c, "no change");
    add(c, c->n_members % shape.n_zones);
    claim_once(c, "join 1");
    c->members[3].weight = 0;
    claim_once(c, "lose 1");
    c->members[5].weight = 0;
    add(c, 5 % shape.n_zones);
    claim_once(c, "replace 1");
    for (uint32_t k = 0; k < 6; k++)
        add(c, c->n_members % shape.n_zones);
    claim_once(c, "join 6");
    c->members[7].weight = c->members[8].weight = c->members[9].weight = 0;
    claim_once(c, "lose 3");
    any_change(c);
    claim_once(c, "any");
    free(c->table);
    free(c->primary);
    free(c);
}

int main(int argc, char **argv)
{
    static const struct shape shapes[] = {
        {1024, 3, 10, 1, false},      {1024, 3, 10, 3, false},   {4096, 3, 100, 3, false},
        {16384, 3, 50, 3, false},     {16384, 3, 50, 2, false},  {16384, 3, 1000, 1, false},
        {16384, 3, 1000, 5, false},   {16384, 3, 1000, 5, true}, {16384, 5, 1000, 7, true},
        {16384, 3, 1000, 1000, true}, {16384, 7, 1000, 3, true},
    };
    struct rusage usage;

    if (argc > 1)
        rounds = (unsigned)strtoul(argv[1], NULL, 10);
    if (rounds == 0)
        rounds = 1;
    for (size_t k = 0; k < sizeof(shapes) / sizeof(shapes[0]); k++)
        run(shapes[k]);
    getrusage(RUSAGE_SELF, &usage);
    printf("most memory: %ld KiB\n", usage.ru_maxrss);
    return 0;
}
