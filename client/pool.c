/* pool: see pool.h. */
#include "client/pool.h"

#include <stdio.h>
#include <stdlib.h>

void pool_init(struct pool *p, uint32_t lanes, uint64_t seed)
{
    *p = (struct pool){.lanes = lanes, .random = seed | 1};
}

static void target_free(struct pool_target *t)
{
    if (!t)
        return;
    free(t->address);
    free(t->conns);
    free(t);
}

void pool_deinit(struct pool *p)
{
    uint32_t i;

    for (i = 0; i < p->n_targets; i++)
        target_free(p->targets[i]);
    free(p->targets);
    *p = (struct pool){0};
}

/* xorshift64*: jitter only, nothing depends on its quality. */
uint32_t pool_random(struct pool *p, uint32_t n)
{
    p->random ^= p->random >> 12;
    p->random ^= p->random << 25;
    p->random ^= p->random >> 27;
    return (uint32_t)(((p->random * 2685821657736338717ull) >> 32) * n >> 32);
}

static struct pool_target *target_new(struct slice address, uint32_t lanes)
{
    struct pool_target *t = calloc(1, sizeof(*t));
    uint32_t i;

    if (!t)
        return NULL;
    t->address = malloc(address.len + 1);
    t->conns = calloc(lanes, sizeof(*t->conns));
    if (!t->address || !t->conns) {
        target_free(t);
        return NULL;
    }
    memcpy(t->address, address.data, address.len);
    t->address[address.len] = '\0';
    for (i = 0; i < lanes; i++) {
        t->conns[i].queued = (struct pool_list){.head = POOL_NONE, .tail = POOL_NONE};
        t->conns[i].flight = (struct pool_list){.head = POOL_NONE, .tail = POOL_NONE};
    }
    return t;
}

int pool_add(struct pool *p, struct slice address, bool configured)
{
    struct pool_target **grown, *t;
    uint32_t i;

    for (i = 0; i < p->n_targets; i++) {
        if (slice_equal(slice_str(p->targets[i]->address), address))
            return (int)i;
    }
    if (p->n_targets >= POOL_TARGETS_MAX || (configured && p->n_configured >= POOL_ENDPOINTS_MAX))
        return -ERR_FULL;
    grown = realloc(p->targets, (p->n_targets + 1) * sizeof(*grown));
    if (!grown)
        return -ERR_NO_MEMORY;
    p->targets = grown;
    t = target_new(address, p->lanes);
    if (!t)
        return -ERR_NO_MEMORY;
    t->configured = configured;
    p->targets[p->n_targets++] = t;
    if (configured)
        p->n_configured++;
    return (int)p->n_targets - 1;
}

int pool_add_member(struct pool *p, const struct wire_member *member)
{
    uint32_t i;
    int r;

    for (i = 0; i < p->n_targets; i++) {
        if (p->targets[i]->known && wire_id_equal(&p->targets[i]->node_id, &member->id))
            return (int)i;
    }
    r = pool_add(p, member->client_address, false);
    if (r < 0)
        return r;
    p->targets[r]->known = true;
    p->targets[r]->node_id = member->id;
    return r;
}

bool pool_backing_off(const struct pool *p, uint32_t conn, uint64_t now_ms)
{
    const struct pool_target *t = pool_target_of(p, conn);

    return t->failures > 0 && now_ms < t->retry_at_ms;
}

bool pool_start(struct pool *p, uint32_t conn, uint64_t now_ms)
{
    struct pool_conn *c = pool_conn(p, conn);

    if (c->state == POOL_CONNECTING || c->state == POOL_UP || pool_backing_off(p, conn, now_ms))
        return false;
    c->state = POOL_CONNECTING;
    c->blocked = false;
    c->suspect = false;
    c->timeout_ms = now_ms + POOL_CONNECT_MS;
    p->n_connecting++;
    return true;
}

void pool_up(struct pool *p, uint32_t conn, const struct wire_hello_result *hello, uint64_t now_ms)
{
    struct pool_target *t = pool_target_of(p, conn);
    struct pool_conn *c = pool_conn(p, conn);

    p->n_connecting--;
    c->state = POOL_UP;
    c->served = false;
    c->rx_ms = now_ms;
    t->failures = 0;
    t->leaving_ms = 0;
    t->reason[0] = '\0';
    t->known = true;
    t->node_id = hello->node_id;
    t->n_workers = hello->n_workers;
    c->worker = hello->worker;
}

void pool_leaving(struct pool *p, uint32_t conn, uint64_t now_ms)
{
    pool_target_of(p, conn)->leaving_ms = now_ms + POOL_LEAVE_MS;
}

void pool_down(struct pool *p, uint32_t conn, const char *reason, uint64_t now_ms)
{
    struct pool_target *t = pool_target_of(p, conn);
    struct pool_conn *c = pool_conn(p, conn);
    uint32_t shift = t->failures < 8 ? t->failures : 8;
    uint32_t delay = POOL_BACKOFF_FIRST_MS << shift;

    bool idle = c->state == POOL_UP && c->flight.n == 0 && (c->queued.n == 0 || c->served);

    if (c->state == POOL_CONNECTING)
        p->n_connecting--;
    c->suspect = false;
    /* Nodes close idle connections: that is no failure, even if a request was about to be sent.
     * Had it never served one, connecting again at once could go on forever. */
    if (idle) {
        c->state = POOL_IDLE;
        return;
    }
    c->state = POOL_BACKOFF;
    t->failed_ms = now_ms;
    if (delay > POOL_BACKOFF_MAX_MS)
        delay = POOL_BACKOFF_MAX_MS;
    /* several lanes that fail together are one failure */
    if (t->failures == 0 || now_ms >= t->retry_at_ms) {
        t->failures++;
        t->retry_at_ms = now_ms + delay / 2 + pool_random(p, delay / 2 + 1);
    }
    snprintf(t->reason, sizeof(t->reason), "%s", reason);
}
