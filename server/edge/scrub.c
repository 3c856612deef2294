/* scrub: asks the store for one slice of its scrub after another, slowly, and tells what it found.
 *
 *   timer --> ask --> (a thread of the store) --> woken --> tell, count, pause --> timer
 *
 * The store decides what is wrong and puts its own summaries right; only the pace is kept here.
 * Damaged records are reported to the worker that owns them, which has them healed by the other
 * replicas (server/core/heal); a summary that was made anew is enough for replicas to see what is
 * missing.
 *
 * A round begins in a zone chosen at random, and again so after each start: a node that is started
 * every few hours gets around all the same.
 */
#include "server/edge/scrub.h"

#include <inttypes.h>

#include "proto/err.h"
#include "server/edge/control.h"
#include "server/edge/worker_loop.h"

#define PAUSE_MIN_MS 1u
/* Longer than this there is no pause while nobody has set a rate: not between zones, however little
 * is in them, and not after what was much for a store that may be larger in a minute. */
#define PAUSE_MAX_MS ((uint64_t)SCRUB_ROUND_S * 1000 / STORE_ZONES)

uint64_t scrub_rate_of(uint64_t used_bytes)
{
    uint64_t rate = used_bytes / SCRUB_ROUND_S + 1;

    return rate < SCRUB_RATE_MAX ? rate : SCRUB_RATE_MAX;
}

uint64_t scrub_pause_ms(uint64_t cost_bytes, uint64_t rate)
{
    uint64_t ms = cost_bytes * 1000 / rate;

    return ms < PAUSE_MIN_MS ? PAUSE_MIN_MS : ms;
}

static struct store *store_of(const struct scrub *s)
{
    return s->control->node->store;
}

static uint32_t queue_of(const struct scrub *s)
{
    return s->control->loop.index;
}

static struct log *log_of(const struct scrub *s)
{
    return &s->control->node->log;
}

/* The rate nobody has set is taken anew for each slice: a store that fills while a round is under
 * way is not looked through at the pace of an empty one. */
static uint64_t pause_after(const struct scrub *s, uint64_t cost_bytes)
{
    uint64_t fixed = s->control->node->config.scrub_rate, ms;

    if (fixed != CONFIG_SCRUB_RATE_AUTO)
        return scrub_pause_ms(cost_bytes, fixed);
    ms = scrub_pause_ms(cost_bytes, scrub_rate_of(s->control->load.store.used_bytes));
    return ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS;
}

/* ---- asking -------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer);

static void pause_for(struct scrub *s, uint64_t ms)
{
    if (!s->stopped)
        uv_timer_start(&s->timer, on_timer, ms, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct scrub *s = timer->data;
    struct store *store = store_of(s);

    if (store->ops->scrub(store, queue_of(s), &s->at, SCRUB_SLICE_BYTES) == 0)
        s->asked = true;
    else
        pause_for(s, SCRUB_RETRY_MS);
}

static void begin_round(struct scrub *s)
{
    s->round = (struct scrub_counts){0};
    s->round_began_ms = loop_now_ms(&s->control->loop);
}

/* ---- telling ------------------------------------------------------------------------------- */

static void tell_bad(const struct scrub *s, const struct store_scrub *found)
{
    uint64_t token = 0;
    struct key key = {0};

    if (found->n_named > 0)
        store_cursor_decode(slice_of(found->bad[0].cursor, found->bad[0].len), &token, &key);
    log_error(log_of(s), "stored records fail their checksum",
              "zone=%u records=%" PRIu64 " first=%s token=%016" PRIx64, found->zone, found->n_bad,
              LOG_SLICE(key.partition), token);
}

/* To their owners, who have them healed. */
static void report_bad(const struct scrub *s, const struct store_scrub *found)
{
    struct control *c = s->control;

    for (size_t i = 0; i < found->n_named; i++) {
        struct slice cursor = slice_of(found->bad[i].cursor, found->bad[i].len);
        uint32_t owner = token_worker(store_cursor_token(cursor), c->node->n_workers);
        struct letter *letter = letter_new(LETTER_DAMAGED, c->loop.index);

        if (!letter)
            return; /* met again by the next comparison */
        letter->u.damaged.store_key = blob_copy(cursor);
        loop_post_one(&c->node->workers[owner]->loop, letter);
    }
}

/* So that the zone is compared with other replicas at once. */
static void report_remade(const struct scrub *s, uint32_t zone)
{
    struct control *c = s->control;
    uint64_t first = (uint64_t)zone * (UINT64_MAX / STORE_ZONES + 1);
    struct letter *letter = letter_new(LETTER_REMADE, c->loop.index);

    if (!letter)
        return; /* compared within a round anyway */
    letter->u.remade.range = (struct store_range){first, first + UINT64_MAX / STORE_ZONES};
    loop_post_one(&c->node->workers[token_worker(first, c->node->n_workers)]->loop, letter);
}

static void tell(const struct scrub *s, const struct store_scrub *found)
{
    if (found->n_bad)
        tell_bad(s, found);
    if (found->remade)
        log_warn(log_of(s),
                 "sums of stored records were wrong and were made anew: some are missing, or not "
                 "what they were",
                 "zone=%u", found->zone);
    if (found->error == -ERR_CORRUPT || found->error == -ERR_FORMAT)
        log_error(log_of(s), "a part of the data file cannot be read: let the node be replaced",
                  "zone=%u error=%s", found->zone, err_name(found->error));
    else if (found->error < 0)
        log_warn(log_of(s), "stored records could not be checked, which is tried again",
                 "zone=%u error=%s", found->zone, err_name(found->error));
}

static void end_round(struct scrub *s)
{
    uint64_t ms = loop_now_ms(&s->control->loop) - s->round_began_ms;
    const struct scrub_counts *n = &s->round;
    bool matters = n->n_bad || n->n_remade || n->n_errors || ms >= SCRUB_TELL_ROUND_MS;

    s->n_rounds++;
    log_write(log_of(s), matters ? LOG_INFO : LOG_DEBUG, "all stored records were read again",
              "records=%" PRIu64 " bytes=%" PRIu64 " damaged=%" PRIu64 " sums_made_anew=%" PRIu64
              " seconds=%" PRIu64,
              n->n_records, n->n_bytes, n->n_bad, n->n_remade, ms / 1000);
}

static void count(struct scrub_counts *n, const struct store_scrub *found)
{
    n->n_records += found->n_records;
    n->n_bytes += found->n_bytes;
    n->n_bad += found->n_bad;
    n->n_remade += found->remade;
    n->n_errors += found->error != 0;
}

/* ---- outcomes ------------------------------------------------------------------------------ */

static bool is_for_later(const struct store_scrub *found)
{
    return found->error != 0 && found->next.zone == found->zone;
}

void scrub_woken(struct scrub *s)
{
    struct store *store = store_of(s);
    const struct store_scrub *found = &s->found;

    if (!s->asked || !store->ops->scrubbed(store, queue_of(s), &s->found))
        return;
    store->ops->read_end(store, queue_of(s));
    s->asked = false;
    s->at = found->next;
    count(&s->round, found);
    count(&s->total, found);
    tell(s, found);
    report_bad(s, found);
    if (found->remade)
        report_remade(s, found->zone);
    if (s->at.zone == s->first_zone && found->zone != s->first_zone) {
        end_round(s);
        begin_round(s);
    }
    if (is_for_later(found))
        pause_for(s, SCRUB_RETRY_MS);
    else
        pause_for(s, pause_after(s, SCRUB_SLICE_COST_BYTES + found->n_bytes +
                                        found->n_records * SCRUB_RECORD_COST_BYTES));
}

/* ---- life ---------------------------------------------------------------------------------- */

void scrub_start(struct scrub *s, struct control *c)
{
    *s = (struct scrub){.control = c, .stopped = c->node->config.scrub_rate == 0};
    uv_timer_init(&c->loop.uv, &s->timer);
    s->timer.data = s;
    if (s->stopped)
        return;
    s->first_zone = (uint32_t)(prng_next(&c->loop.prng) % STORE_ZONES);
    s->at.zone = s->first_zone;
    begin_round(s);
    pause_for(s, pause_after(s, SCRUB_SLICE_COST_BYTES));
}

void scrub_stop(struct scrub *s)
{
    s->stopped = true;
    if (s->control)
        uv_timer_stop(&s->timer);
}
