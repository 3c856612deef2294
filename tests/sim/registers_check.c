/* registers_check: what must hold of rings, whoever decides them and whatever happens meanwhile:
 *
 *   - an epoch has one ring, for ever;
 *   - decided epochs form a chain without gaps, each ring computed from the one before;
 *   - a change that was acknowledged is in every later ring;
 *   - one that is told to have lost, or not to have been proposed, is never decided;
 *   - a ballot stands for one ring.
 *
 * The checks do not trust the register: they see only bytes, and remember all of them. Node i's
 * changes grow the fence version of partition i, so that a ring shows how many of them are in it.
 */
#include "tests/sim/registers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define EPOCHS_MAX 8192u
#define RECORDS_MAX (1u << 16)

struct record {
    uint64_t ring; /* hash of its bytes; 0: free */
    uint64_t from; /* of the ring that it was computed from */
    bool lost;
};

struct offer {
    struct wire_ballot ballot; /* counter 0: free */
    uint64_t ring;
};

struct history {
    uint64_t epoch;
    uint64_t decided[EPOCHS_MAX];    /* hashes, by epoch */
    uint32_t (*fences)[NODES_MAX];   /* by epoch */
    uint32_t acked[NODES_MAX];       /* highest fence version acknowledged, */
    uint64_t acked_epoch[NODES_MAX]; /* in this epoch */
    struct record *records;          /* by hash */
    struct offer *offers;            /* by hash of the ballot */
};

void failed(const char *fmt, ...)
{
    va_list args;

    printf("\nFAILED: ");
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
    exit(1);
}

/* FNV-1a; never 0. */
static uint64_t hash_of(struct slice bytes)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < bytes.len; i++)
        h = (h ^ bytes.data[i]) * 0x100000001b3u;
    return h | 1;
}

static struct record *record_of(struct history *h, uint64_t ring)
{
    uint32_t at = (uint32_t)(ring >> 32) % RECORDS_MAX;

    while (h->records[at].ring && h->records[at].ring != ring)
        at = (at + 1) % RECORDS_MAX;
    h->records[at].ring = ring;
    return &h->records[at];
}

static void read_fences(struct slice bytes, uint32_t out[NODES_MAX])
{
    struct wire_ring ring;
    struct arena arena;

    arena_init(&arena, WIRE_ARENA_BUDGET_RING);
    if (wire_ring_unpack(bytes, &arena, &ring) < 0)
        failed("what is decided is no ring");
    memcpy(out, ring.fence, NODES_MAX * sizeof(out[0]));
    arena_deinit(&arena);
}

struct history *history_new(struct slice first_ring)
{
    struct history *h = calloc(1, sizeof(*h));

    if (!h || !(h->records = calloc(RECORDS_MAX, sizeof(*h->records))) ||
        !(h->offers = calloc(RECORDS_MAX, sizeof(*h->offers))) ||
        !(h->fences = calloc(EPOCHS_MAX, sizeof(*h->fences))))
        abort();
    h->epoch = 1;
    h->decided[1] = hash_of(first_ring);
    read_fences(first_ring, h->fences[1]);
    return h;
}

void history_free(struct history *h)
{
    free(h->records);
    free(h->offers);
    free(h->fences);
    free(h);
}

uint64_t history_epoch(const struct history *h)
{
    return h->epoch;
}

void history_computed(struct history *h, struct slice ring, struct slice from)
{
    struct record *record = record_of(h, hash_of(ring));

    record->from = hash_of(from);
}

void history_offered(struct history *h, const struct wire_ballot *ballot, struct slice ring)
{
    uint64_t hash = hash_of(ring);
    uint64_t at = (ballot->counter * 31 + ballot->node.b[0]) * 31 + ballot->boot;
    struct offer *o;

    for (;; at++) {
        o = &h->offers[at % RECORDS_MAX];
        if (o->ballot.counter == 0 || memcmp(&o->ballot, ballot, sizeof(*ballot)) == 0)
            break;
    }
    if (o->ballot.counter && o->ring != hash)
        failed("ballot %llu of node %u stands for two rings", (unsigned long long)ballot->counter,
               ballot->node.b[0]);
    *o = (struct offer){.ballot = *ballot, .ring = hash};
}

static void check_acked(const struct history *h, uint64_t epoch)
{
    for (uint32_t i = 0; i < NODES_MAX; i++)
        if (epoch >= h->acked_epoch[i] && h->fences[epoch][i] < h->acked[i])
            failed("epoch %llu lacks a change that node %u was told to be decided in epoch %llu",
                   (unsigned long long)epoch, i, (unsigned long long)h->acked_epoch[i]);
}

void history_decided(struct history *h, uint64_t epoch, struct slice ring)
{
    uint64_t hash = hash_of(ring);
    const struct record *record = record_of(h, hash);

    if (epoch == 0 || epoch >= EPOCHS_MAX)
        failed("epoch %llu", (unsigned long long)epoch);
    if (epoch <= h->epoch) {
        if (h->decided[epoch] != hash)
            failed("epoch %llu has two rings", (unsigned long long)epoch);
        return;
    }
    if (epoch != h->epoch + 1)
        failed("epoch %llu is decided, and %llu is not", (unsigned long long)epoch,
               (unsigned long long)epoch - 1);
    if (record->from != h->decided[epoch - 1])
        failed("the ring of epoch %llu does not follow the one before it",
               (unsigned long long)epoch);
    if (record->lost)
        failed("epoch %llu is a change that was told to have come to nothing",
               (unsigned long long)epoch);
    h->epoch = epoch;
    h->decided[epoch] = hash;
    read_fences(ring, h->fences[epoch]);
    check_acked(h, epoch);
}

void history_acked(struct history *h, uint64_t epoch, struct slice ring)
{
    history_decided(h, epoch, ring);
    for (uint32_t i = 0; i < NODES_MAX; i++)
        if (h->fences[epoch][i] > h->acked[i]) {
            h->acked[i] = h->fences[epoch][i];
            h->acked_epoch[i] = epoch;
        }
    for (uint64_t e = epoch; e <= h->epoch; e++)
        check_acked(h, e);
}

void history_lost(struct history *h, struct slice ring)
{
    uint64_t hash = hash_of(ring);

    for (uint64_t e = 1; e <= h->epoch; e++)
        if (h->decided[e] == hash)
            failed("the change that is epoch %llu was told to have come to nothing",
                   (unsigned long long)e);
    record_of(h, hash)->lost = true;
}
