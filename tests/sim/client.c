/* client: a few clients that put, get, delete and scan through random nodes, and remember.
 *
 * Each request is a call of its own with a value of its own; nothing that may have been sent is
 * sent again. A connection lives as long as the call: when the node goes down, or the client hangs
 * up, a write that was under way is of unknown outcome. */
#include "tests/sim/sim.h"

#include "proto/err.h"

#include <stdio.h>
#include <stdlib.h>

/* Beyond its deadline an answer may be late by what the way takes, timers' grain, and drift. */
#define SLACK_US (100 * MS)

struct key client_key(uint32_t key, char text[16])
{
    snprintf(text, 16, "key-%u", key);
    return (struct key){.bucket = BUCKET_DEFAULT, .partition = slice_str(text)};
}

int client_key_index(const struct world *w, const struct key *key)
{
    uint32_t i;

    if (key->bucket != BUCKET_DEFAULT || key->partition.len != 5 || key->sort.len != 0 ||
        memcmp(key->partition.data, "key-", 4) != 0)
        return -1;
    i = key->partition.data[4] - '0';
    return i < w->n_keys ? (int)i : -1;
}

/* The call's number in decimal, padded: says who wrote it, and takes one blob or many. */
static struct slice value_of(uint64_t call, char out[SIM_VALUE_MAX])
{
    size_t len = call % 5 == 0 ? 200 + call * 7 % 400 : 24;

    memset(out, '.', len);
    snprintf(out, 22, "%020llu", (unsigned long long)call);
    out[20] = '.';
    out[21] = '.';
    return slice_of(out, len);
}

/* ---- calling ----------------------------------------------------------------------------- */

static uint64_t remember(struct world *w, const struct call *c)
{
    struct history *h = &w->history;

    if (h->n_calls == h->cap_calls) {
        h->cap_calls = h->cap_calls ? h->cap_calls * 2 : 1024;
        h->calls = realloc(h->calls, h->cap_calls * sizeof(*c));
        if (!h->calls)
            abort();
    }
    h->calls[h->n_calls] = *c;
    return h->n_calls++;
}

static void fill_request(struct world *w, uint64_t id, const struct call *c, char *key_text,
                         char *value_text, struct wire_request *req)
{
    const struct client *client = &w->clients[c->client];

    *req = (struct wire_request){.id = id,
                                 .deadline_ms = (uint32_t)(c->deadline_us / MS),
                                 .hlc = client->echoes ? client->hlc : 0,
                                 .op = c->op,
                                 .level = c->level};
    if (c->op == OP_SCAN) {
        req->u.scan.partition = c->partition;
        req->u.scan.n_partitions = SIM_PARTITIONS;
        req->u.scan.page_bytes = c->whole ? 0 : 1 + (uint32_t)sim_below(w, 300);
        return;
    }
    req->key = client_key(c->key, key_text);
    if (c->op == OP_PUT)
        req->value = value_of(id, value_text);
}

static void send_call(struct world *w, uint64_t id)
{
    struct call *c = &w->history.calls[id];
    struct node *n = &w->nodes[c->node];
    struct wire_request req;
    char key_text[16], value_text[SIM_VALUE_MAX];
    struct item item = {.type = ITEM_REQUEST, .node = (uint16_t)c->node, .a = id};

    fill_request(w, id, c, key_text, value_text, &req);
    w->scratch.len = 0;
    if (wire_request_pack(&req, &w->scratch) < 0) {
        sim_fail(w, "a request cannot be packed");
        return;
    }
    w->stats.n_requests++;
    item.bytes = blob_copy(buf_slice(&w->scratch));
    item.worker = (uint16_t)sim_below(w, n->n_workers);
    sim_push(w, w->now_us + n->slow_us + sim_delay(w, 2 * MS), item);
    sim_push(w, w->now_us + c->deadline_us + c->deadline_us / 50 + SLACK_US,
             (struct item){.type = ITEM_LATE, .a = id});
    if (w->enabled[FAULT_GONE] && !w->healed && sim_chance(w, 30)) {
        w->stats.faults[FAULT_GONE]++;
        sim_push(w, w->now_us + sim_delay(w, 20 * MS), (struct item){.type = ITEM_CLOSED, .a = id});
        sim_push(w, w->now_us + sim_delay(w, 30 * MS),
                 (struct item){
                     .type = ITEM_GONE, .node = (uint16_t)c->node, .worker = item.worker, .a = id});
    }
}

static const char *const op_names[] = {"none", "hello",  "ping", "get",
                                       "put",  "delete", "scan", "ring"};

void client_call(struct world *w, uint32_t client, struct call call)
{
    struct node *n = &w->nodes[call.node];
    uint64_t id;

    call.client = client;
    call.start_us = w->now_us;
    call.generation = n->generation;
    if (!n->alive)
        return; /* nobody answers: nothing was sent */
    check_started(w, &call);
    id = remember(w, &call);
    w->clients[client].n_open++;
    sim_trace(w, "call %llu: client %u, %s %u (partition %u) at level %d through n%u",
              (unsigned long long)id, client, op_names[call.op], call.key, call.partition,
              call.level, call.node);
    send_call(w, id);
}

static enum wire_level draw_level(struct world *w)
{
    uint64_t r = sim_below(w, 100);

    return r < 55 ? LEVEL_QUORUM : r < 75 ? LEVEL_ALL : r < 90 ? LEVEL_ONE : LEVEL_DEFAULT;
}

static enum wire_op draw_op(struct world *w)
{
    uint64_t r = sim_below(w, 100);

    return r < 45 ? OP_GET : r < 85 ? OP_PUT : r < 95 ? OP_DELETE : OP_SCAN;
}

/* A corrupt record that the call cannot do without: nothing repairs it yet. A scan meets those
 * of other keys, too. */
static bool in_the_way(const struct world *w, const struct call *call)
{
    bool any = false;

    for (uint32_t i = 0; i < w->n_keys; i++)
        any |= w->rotten[i];
    return call->op == OP_SCAN ? any : call->level == LEVEL_ALL && w->rotten[call->key];
}

void client_act(struct world *w, uint32_t index)
{
    struct client *client = &w->clients[index];
    struct call call = {.op = draw_op(w),
                        .level = draw_level(w),
                        .node = (uint32_t)sim_below(w, w->n_nodes),
                        .key = (uint32_t)sim_below(w, w->n_keys),
                        .whole = sim_chance(w, 500)};

    if (!client->active)
        return;
    call.partition = check_partition(w, call.key);
    call.deadline_us = (sim_chance(w, 200) ? 5 + sim_below(w, 100) : 500 + sim_below(w, 2000)) * MS;
    if (w->demanding) {
        call.deadline_us = 3 * SECOND;
        call.must_succeed = !in_the_way(w, &call);
    }
    if (client->n_open < client->depth)
        client_call(w, index, call);
    sim_push(w, w->now_us + 100 + sim_delay(w, w->healed ? 300 * MS : client->pause_us),
             (struct item){.type = ITEM_CLIENT, .a = index});
}

/* ---- answers ----------------------------------------------------------------------------- */

static void finish(struct world *w, uint64_t id, enum call_status status)
{
    struct call *c = &w->history.calls[id];

    c->status = status;
    w->clients[c->client].n_open--;
}

static void note_error(struct world *w, int code)
{
    switch (code) {
    case ERR_NO_QUORUM:
        w->stats.covers[COVER_NO_QUORUM]++;
        break;
    case ERR_DEADLINE:
        w->stats.covers[COVER_DEADLINE]++;
        break;
    case ERR_NO_SPACE:
        w->stats.covers[COVER_NO_SPACE]++;
        break;
    case ERR_CLOCK:
        w->stats.covers[COVER_CLOCK]++;
        break;
    case ERR_OVERLOADED:
        w->stats.covers[COVER_OVERLOADED]++;
        break;
    default:
        break;
    }
}

void client_answer(struct world *w, struct item *item)
{
    struct call *c = &w->history.calls[item->a];
    struct client *client = &w->clients[c->client];
    struct wire_response res;
    struct slice body = slice_of(item->bytes->data + LIMIT_FRAME_HEADER_BYTES,
                                 item->bytes->len - LIMIT_FRAME_HEADER_BYTES);
    int code;

    if (c->status != CALL_PENDING)
        return; /* the connection was closed before */
    arena_reset(&w->arena, WIRE_ARENA_BUDGET(body.len));
    if (wire_response_unpack(body, &w->arena, &res) < 0 || res.id != item->a) {
        sim_fail(w, "the answer to call %llu cannot be read", (unsigned long long)item->a);
        return;
    }
    client->hlc = res.hlc > client->hlc ? res.hlc : client->hlc;
    code = res.error.code;
    sim_trace(w, "call %llu: %s", (unsigned long long)item->a, code ? err_name(code) : "ok");
    note_error(w, code);
    if (code == 0)
        finish(w, item->a, CALL_DONE);
    else
        finish(w, item->a, code == ERR_UNKNOWN_OUTCOME ? CALL_UNKNOWN : CALL_REFUSED);
    check_answer(w, item->a, &res);
}

void client_closed(struct world *w, uint64_t id)
{
    if (w->history.calls[id].status != CALL_PENDING)
        return;
    finish(w, id, CALL_UNKNOWN);
    sim_trace(w, "call %llu: connection closed", (unsigned long long)id);
}

void client_lost_node(struct world *w, uint32_t node)
{
    const struct history *h = &w->history;

    /* Calls live for seconds: those still open are among the last. */
    for (size_t i = h->n_calls; i-- > 0 && h->calls[i].start_us + 10 * SECOND > w->now_us;)
        if (h->calls[i].status == CALL_PENDING && h->calls[i].node == node)
            sim_push(w, w->now_us + sim_delay(w, 10 * MS),
                     (struct item){.type = ITEM_CLOSED, .a = i});
}

/* Every request is answered in time, unless its node had an excuse since. */
void client_late(struct world *w, uint64_t id)
{
    const struct call *c = &w->history.calls[id];
    const struct node *n = &w->nodes[c->node];

    if (c->status != CALL_PENDING || n->generation != c->generation)
        return;
    if (n->disturbed_us + SLACK_US < c->start_us && n->paused_us < c->start_us && n->slow_us == 0)
        sim_fail(w, "call %llu through %s was not answered by its deadline", (unsigned long long)id,
                 n->name);
    else
        sim_push(w, w->now_us + 2 * SECOND, (struct item){.type = ITEM_CLOSED, .a = id});
}

void client_init(struct world *w)
{
    uint64_t pause = w->storm ? 30 * MS : (sim_chance(w, 300) ? 30 : 400) * MS;

    for (uint32_t i = 0; i < w->n_clients; i++) {
        struct client *c = &w->clients[i];

        c->echoes = sim_chance(w, 500);
        c->active = true;
        c->depth = w->storm ? SIM_DEPTH_MAX : 1 + (uint32_t)sim_below(w, SIM_DEPTH_MAX);
        c->pause_us = pause;
        sim_push(w, 500 * MS + sim_below(w, SECOND), (struct item){.type = ITEM_CLIENT, .a = i});
    }
}
