/* ring_tamper: gives a stopped node a ring of a later epoch, for tests of whole nodes: as if it had
 * learnt of a decision that the others have not.
 *
 *     ring_tamper STORE EPOCH [LATER [ID NAME CLIENTS PEERS]]
 *
 * STORE is the directory with data.mdb in it. The ring is read and written by the store itself. In
 * the new one each partition's primary is its next READY slot, and the number of the next
 * incarnation is LATER higher (0 unless said otherwise): whoever has taken that takes no ring
 * without it any more. ID NAME CLIENTS PEERS (32 hexadecimal digits, text, two addresses) is one
 * more member, that holds nothing.
 */
#include "server/core/form.h"
#include "storage/store_log.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#define CONTROL 0u /* the only queue */
#define MAP_BYTES (1ull << 30)

static void fail(const char *what)
{
    fprintf(stderr, "ring_tamper: %s\n", what);
    exit(1);
}

static void woken(void *ctx, uint32_t queue)
{
    sem_post(ctx);
}

static void fatal(void *ctx, const char *sentence)
{
    fail(sentence);
}

static void write_ring(struct store *s, sem_t *wake, const struct wire_ring *ring)
{
    struct buf bytes = {0};
    struct store_op op = {.type = STORE_OP_META, .name = slice_str(FORM_META_RING)};
    struct store_done done;
    uint64_t lsn;

    if (wire_ring_pack(ring, &bytes) < 0)
        fail("the ring cannot be packed");
    op.value = buf_slice(&bytes);
    if (s->ops->submit(s, CONTROL, &op, 1, &lsn) < 0)
        fail("the store takes no ring");
    while (s->ops->reap(s, CONTROL, &done, 1) == 0)
        sem_wait(wake);
    if (done.error < 0)
        fail(err_text(done.error));
    buf_deinit(&bytes);
}

static void next_primaries(const struct wire_ring *ring, uint32_t *ret)
{
    for (uint32_t p = 0; p < ring->n_partitions; p++) {
        const uint32_t *state = &ring->slot_state[(size_t)p * ring->n_slots];

        ret[p] = ring->primary[p];
        do
            ret[p] = (ret[p] + 1) % ring->n_slots;
        while (state[ret[p]] != SLOT_READY);
    }
}

static void read_ring(struct store *s, struct arena *arena, struct wire_ring *ret)
{
    struct buf bytes = {0};

    if (s->ops->meta_get(s, CONTROL, slice_str(FORM_META_RING), &bytes) != 0 ||
        wire_ring_unpack(buf_slice(&bytes), arena, ret) < 0)
        fail("there is no ring");
    s->ops->read_end(s, CONTROL);
    buf_deinit(&bytes);
}

static void add_member(struct wire_ring *ring, struct arena *arena, char **words)
{
    struct wire_member *members = arena_alloc(arena, (ring->n_members + 1) * sizeof(*members));
    struct wire_member *m = &members[ring->n_members];
    unsigned int byte;

    if (!members)
        fail("out of memory");
    memcpy(members, ring->members, ring->n_members * sizeof(*members));
    *m = (struct wire_member){.name = slice_str(words[1]),
                              .client_address = slice_str(words[2]),
                              .peer_address = slice_str(words[3]),
                              .weight = 1};
    for (size_t i = 0; i < WIRE_ID_BYTES; i++) {
        if (sscanf(words[0] + 2 * i, "%2x", &byte) != 1)
            fail("that is no id");
        m->id.b[i] = (uint8_t)byte;
    }
    ring->members = members;
    ring->n_members++;
}

int main(int argc, char **argv)
{
    char why[STORE_WHY_BYTES];
    struct wire_ring ring;
    struct arena arena;
    struct store *s;
    sem_t wake;

    if (argc != 3 && argc != 4 && argc != 8) {
        fprintf(stderr, "usage: ring_tamper STORE EPOCH [LATER [ID NAME CLIENTS PEERS]]\n");
        return 2;
    }
    sem_init(&wake, 0, 0);
    struct store_config config = {.notify = woken, .fatal = fatal, .ctx = &wake};
    struct store_log_options options = {.lmdb = {.dir = argv[1], .map_bytes = MAP_BYTES}};
    if (store_log_open(&config, &options, &s, why) < 0)
        fail(why);
    arena_init(&arena, WIRE_ARENA_BUDGET_RING);
    read_ring(s, &arena, &ring);
    ring.epoch = strtoull(argv[2], NULL, 10);
    uint32_t *primary = arena_alloc(&arena, ring.n_partitions * sizeof(*primary));
    if (!primary)
        fail("out of memory");
    next_primaries(&ring, primary);
    ring.primary = primary;
    ring.next_incarnation += argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    if (argc == 8)
        add_member(&ring, &arena, &argv[4]);
    write_ring(s, &wake, &ring);
    s->ops->close(s);
    arena_deinit(&arena);
    sem_destroy(&wake);
    return 0;
}
