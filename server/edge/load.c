/* load: what this node holds and does, looked at once a second.
 *
 * Each look asks the workers to bring their meters up to date, which the next look finds, and tells
 * gossip what the others should know: keys, bytes, requests per second, how long they take, how
 * full the disk is, whether writes are refused. Nothing is decided here.
 */
#include "server/edge/load.h"
#include "server/edge/control.h"
#include "server/edge/worker_loop.h"

static void ask_workers(struct control *c)
{
    for (uint32_t i = 0; i < c->node->n_workers; i++) {
        struct letter *letter = letter_new(LETTER_LOOK, c->loop.index);

        if (letter) /* else they are asked again in a second */
            loop_post_one(&c->node->workers[i]->loop, letter);
    }
}

static bool is_timed(uint32_t verb)
{
    return verb == OP_GET || verb == OP_PUT || verb == OP_DELETE || verb == OP_SCAN;
}

static void mark(const struct node *n, uint64_t now_ms, struct load_mark *ret)
{
    *ret = (struct load_mark){.at_ms = now_ms};
    for (uint32_t i = 0; i < n->n_workers; i++)
        for (uint32_t verb = 0; verb < METER_VERBS; verb++)
            for (uint32_t b = 0; is_timed(verb) && b < METER_BUCKETS; b++)
                ret->took[b] += meter_get(&n->workers[i]->meters.took[verb][b]);
}

/* What came between two marks: into *to. */
static uint64_t since(const struct load_mark *from, struct load_mark *to)
{
    uint64_t n = 0;

    for (uint32_t b = 0; b < METER_BUCKETS; b++) {
        to->took[b] -= from->took[b];
        n += to->took[b];
    }
    return n;
}

uint32_t load_percent(uint64_t used, uint64_t all)
{
    return all == 0 ? 0 : used >= all ? 100 : (uint32_t)((double)used * 100 / (double)all);
}

static void look_at_store(struct load *l, struct node *n)
{
    struct store_stats *s = &l->store;
    uint32_t map_percent, fs_percent;
    uint64_t n_keys;

    if (n->store->ops->stats(n->store, l->control->loop.index, s) < 0)
        return; /* the last look still holds, more or less */
    n_keys = s->n_records;
    for (uint32_t i = 0; i < n->n_workers; i++)
        n_keys += meter_get(&n->workers[i]->meters.records_in_memory);
    map_percent = load_percent(s->used_bytes + s->in_memory_bytes, s->map_bytes);
    fs_percent = load_percent(s->fs_bytes - s->fs_free_bytes, s->fs_bytes);
    l->now.n_keys = n_keys;
    l->now.n_bytes = s->used_bytes + s->in_memory_bytes;
    l->now.disk_percent = map_percent > fs_percent ? map_percent : fs_percent;
    l->now.flags = s->space_low ? LOAD_NO_SPACE : 0;
}

static void look_at_work(struct load *l, const struct node *n, uint64_t now_ms)
{
    struct load_mark now;

    mark(n, now_ms, &now);
    if (now_ms - l->next.at_ms >= LOAD_WINDOW_MS) {
        l->from = l->next;
        l->next = now;
    }
    uint64_t ms = now_ms - l->from.at_ms, n_ops = since(&l->from, &now);
    l->now.ops_per_s = ms > 0 ? n_ops * 1000 / ms : 0;
    l->now.p99_us = meter_quantile_us(now.took, 0.99);
    for (uint32_t i = 0; i < n->n_workers; i++)
        if (meter_get(&n->workers[i]->meters.clock_off))
            l->now.flags |= LOAD_CLOCK;
}

static void look(struct load *l)
{
    struct control *c = l->control;

    look_at_store(l, c->node);
    look_at_work(l, c->node, loop_now_ms(&c->loop));
    gossip_set_load(&c->gossip, &l->now);
    ask_workers(c);
}

static void on_timer(uv_timer_t *timer)
{
    look(timer->data);
}

void load_start(struct load *l, struct control *c)
{
    l->control = c;
    mark(c->node, loop_now_ms(&c->loop), &l->from);
    l->next = l->from;
    uv_timer_init(&c->loop.uv, &l->timer);
    l->timer.data = l;
    look(l);
    uv_timer_start(&l->timer, on_timer, LOAD_TICK_MS, LOAD_TICK_MS);
}
