/* test_form: the first nodes of a cluster agree, whatever happens to them on the way.
 *
 * A world of N forming machines, links that lose, repeat and reorder, and disks that keep what was
 * synced. Messages travel packed, as between processes. After each step the world checks what the
 * protocol promises: nobody is decided before every node holds the same proposal on its disk, and
 * all decide the same. */
#include "tests/unit/test.h"

#include "proto/frame.h"
#include "server/base/prng.h"
#include "server/core/form.h"
#include "server/core/ring.h"
#include <stdio.h>
#include <stdlib.h>

#define NODES 5u
#define QUEUE 4096u

struct node {
    struct form *form; /* NULL: down, or decided before its last restart */
    bool alive, decided, joins, failed, wiped;
    bool writing; /* a sync is under way */
    const char *writing_name;
    struct buf writing_bytes, proposal, ring; /* disk */
    struct wire_member member;
    char name[8], address[16];
    char why[FORM_WHY_BYTES];
    uint32_t replicas;
    bool own_list; /* was started with a shorter list than the others */
    uint32_t n_waits;
};

struct packet {
    size_t from, to;
    struct buf bytes;
};

struct world {
    size_t n;
    struct node nodes[NODES];
    const char *list[NODES];
    struct packet queue[QUEUE];
    size_t n_queue;
    struct prng prng;
    uint64_t now_ms;
    uint32_t loss, dup; /* percent */
    bool in_order;
    uint32_t n_started, n_steps;
    struct form_effects out;
};

/* ---- the world --------------------------------------------------------------------------- */

static struct wire_ring unpack_ring(const struct buf *bytes, struct arena *arena)
{
    struct wire_ring ring;

    assert_int_equal(wire_ring_unpack(buf_slice(bytes), arena, &ring), 0);
    return ring;
}

static void set_buf(struct buf *to, const struct buf *from)
{
    to->len = 0;
    assert_int_equal(buf_append_slice(to, buf_slice(from)), 0);
}

static void check_decided(const struct world *w, size_t who)
{
    const struct buf *ring = &w->nodes[who].ring;

    for (size_t i = 0; i < w->n; i++) {
        const struct node *n = &w->nodes[i];

        /* A disk that was lost after its sync is not the protocol's doing. */
        if (!n->wiped)
            assert_true(slice_equal(buf_slice(&n->proposal), buf_slice(ring)));
        if (n->ring.len > 0)
            assert_true(slice_equal(buf_slice(&n->ring), buf_slice(ring)));
    }
}

static void enqueue(struct world *w, size_t from, size_t to, const struct wire_form *form)
{
    struct wire_peer msg = {.type = PEER_FORM, .u.form = form};
    uint32_t copies = 1;

    if (prng_below(&w->prng, 100) < w->loss)
        copies = 0;
    else if (prng_below(&w->prng, 100) < w->dup)
        copies = 2;
    for (; copies > 0; copies--) {
        struct packet *p = &w->queue[w->n_queue];

        assert_true(w->n_queue < QUEUE);
        w->n_queue++;
        p->from = from;
        p->to = to;
        buf_init(&p->bytes);
        assert_int_equal(wire_peer_pack(&msg, &p->bytes), 0);
    }
}

static void carry_out(struct world *w, size_t who)
{
    struct node *n = &w->nodes[who];

    for (size_t i = 0; i < w->out.n; i++) {
        const struct form_effect *e = &w->out.list[i];

        switch (e->type) {
        case FORM_EFFECT_SEND:
            enqueue(w, who, e->to, &e->message);
            break;
        case FORM_EFFECT_PERSIST:
            assert_false(n->writing);
            n->writing = true;
            n->writing_name = e->name;
            n->writing_bytes.len = 0;
            assert_int_equal(wire_ring_pack(e->ring, &n->writing_bytes), 0);
            break;
        case FORM_EFFECT_DECIDED:
            assert_false(n->decided);
            n->decided = true;
            assert_true(n->ring.len > 0);
            check_decided(w, who);
            break;
        case FORM_EFFECT_FAIL:
            n->failed = true;
            snprintf(n->why, sizeof(n->why), "%s", e->why);
            assert_true(strlen(n->why) > 20);
            break;
        case FORM_EFFECT_JOIN:
            n->joins = n->failed = true; /* to form one */
            break;
        case FORM_EFFECT_WAIT:
            n->n_waits++;
            snprintf(n->why, sizeof(n->why), "%s", e->why);
            break;
        }
    }
}

static void step(struct world *w, size_t who, struct form_event in)
{
    if (!w->nodes[who].form || w->nodes[who].failed)
        return;
    in.now_ms = w->now_ms;
    form_step(w->nodes[who].form, &in, &w->out);
    carry_out(w, who);
}

static void links(struct world *w, size_t who, bool up)
{
    for (size_t i = 0; i < w->n; i++) {
        struct form_event to_other = {.type = up ? FORM_EVENT_LINK_UP : FORM_EVENT_LINK_DOWN,
                                      .from = who};
        struct form_event to_self = {.type = to_other.type, .from = i};

        if (i == who || !w->nodes[i].alive)
            continue;
        step(w, i, to_other);
        if (up)
            step(w, who, to_self);
    }
}

static void start(struct world *w, size_t who)
{
    struct node *n = &w->nodes[who];
    struct arena arena;
    struct wire_ring proposal;
    struct form_config config = {.self = n->member,
                                 .list = w->list,
                                 .n_list = w->n - (n->own_list ? 1 : 0),
                                 .self_index = who,
                                 .replicas = n->replicas};

    n->alive = true;
    n->writing = false;
    n->decided = n->ring.len > 0;
    w->n_started++;
    memcpy(config.cluster_id.b, &w->n_started, sizeof(w->n_started));
    config.cluster_id.b[15] = 1;
    config.space.seed = w->n_started;
    if (!n->decided) {
        arena_init(&arena, WIRE_ARENA_BUDGET_RING);
        if (n->proposal.len > 0) {
            proposal = unpack_ring(&n->proposal, &arena);
            config.proposal = &proposal;
        }
        n->form = form_new(&config);
        assert_non_null(n->form);
        arena_deinit(&arena);
    }
    links(w, who, true);
}

static void stop(struct world *w, size_t who)
{
    struct node *n = &w->nodes[who];

    if (!n->alive)
        return;
    n->alive = false;
    form_free(n->form);
    n->form = NULL;
    n->writing = false;
    links(w, who, false);
}

static void wipe(struct world *w, size_t who)
{
    struct node *n = &w->nodes[who];

    n->proposal.len = 0;
    n->ring.len = 0;
    n->decided = n->failed = false;
    n->wiped = true;
    n->member.id.b[9]++;
}

static void finish_write(struct world *w, size_t who, int error)
{
    struct node *n = &w->nodes[who];
    struct form_event in = {.type = FORM_EVENT_SYNCED, .error = error};

    n->writing = false;
    if (error == 0)
        set_buf(strcmp(n->writing_name, FORM_META_RING) == 0 ? &n->ring : &n->proposal,
                &n->writing_bytes);
    step(w, who, in);
}

static void deliver(struct world *w, size_t at)
{
    struct packet p = w->queue[at];
    struct node *to = &w->nodes[p.to];
    struct arena arena, ring_arena;
    struct wire_peer msg;
    struct slice body;
    size_t used, want;

    memmove(&w->queue[at], &w->queue[at + 1], (w->n_queue - at - 1) * sizeof(p));
    w->n_queue--;
    arena_init(&arena, WIRE_ARENA_BUDGET(p.bytes.len));
    arena_init(&ring_arena, WIRE_ARENA_BUDGET_RING);
    assert_int_equal(frame_next(buf_slice(&p.bytes), &body, &used, &want), 1);
    assert_int_equal(wire_peer_unpack(body, &arena, &msg), 0);
    if (to->alive && to->form) {
        struct form_event in = {.type = FORM_EVENT_MESSAGE, .from = p.from, .message = msg.u.form};

        step(w, p.to, in);
    } else if (to->alive) {
        struct wire_ring ring = unpack_ring(&to->ring, &ring_arena);
        struct wire_form answer;

        if (form_answer(&ring, &to->member, msg.u.form, &answer))
            enqueue(w, p.to, p.from, &answer);
    }
    arena_deinit(&ring_arena);
    arena_deinit(&arena);
    buf_deinit(&p.bytes);
}

static bool one_write(struct world *w, bool random)
{
    size_t first = random ? prng_below(&w->prng, w->n) : 0;

    for (size_t k = 0; k < w->n; k++) {
        size_t i = (first + k) % w->n;

        if (w->nodes[i].writing) {
            finish_write(w, i, 0);
            return true;
        }
    }
    return false;
}

/* One thing happens: a message arrives, a disk has synced, or else time passes. */
static void happen(struct world *w)
{
    w->n_steps++;
    if (w->n_queue > 0 && (w->in_order || prng_below(&w->prng, 3) > 0)) {
        deliver(w, w->in_order ? 0 : prng_below(&w->prng, w->n_queue));
        return;
    }
    if (one_write(w, !w->in_order))
        return;
    w->now_ms += 50;
    for (size_t i = 0; i < w->n; i++)
        if (w->nodes[i].form && form_deadline_ms(w->nodes[i].form) <= w->now_ms)
            step(w, i, (struct form_event){.type = FORM_EVENT_TICK});
}

static bool all_decided(const struct world *w)
{
    for (size_t i = 0; i < w->n; i++)
        if (!w->nodes[i].alive || !w->nodes[i].decided)
            return false;
    return true;
}

static bool any_failed(const struct world *w)
{
    for (size_t i = 0; i < w->n; i++)
        if (w->nodes[i].failed)
            return true;
    return false;
}

static void run(struct world *w, uint32_t steps)
{
    while (steps-- > 0 && !all_decided(w))
        happen(w);
}

static struct world *world_new(size_t n, uint64_t seed)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->n = n;
    w->now_ms = 1000;
    w->in_order = true;
    prng_init(&w->prng, seed);
    for (size_t i = 0; i < n; i++) {
        struct node *node = &w->nodes[i];

        snprintf(node->name, sizeof(node->name), "n%zu", i);
        snprintf(node->address, sizeof(node->address), "h:%zu", 7401 + i);
        w->list[i] = node->address;
        node->replicas = 3;
        node->member = (struct wire_member){.id.b = {(uint8_t)(9 - i), 1},
                                            .name = slice_str(node->name),
                                            .client_address = slice_str("h:1"),
                                            .peer_address = slice_str(node->address),
                                            .weight = 1};
    }
    return w;
}

static void world_free(struct world *w)
{
    for (size_t i = 0; i < w->n; i++) {
        form_free(w->nodes[i].form);
        buf_deinit(&w->nodes[i].writing_bytes);
        buf_deinit(&w->nodes[i].proposal);
        buf_deinit(&w->nodes[i].ring);
    }
    for (size_t i = 0; i < w->n_queue; i++)
        buf_deinit(&w->queue[i].bytes);
    free(w);
}

static void start_all(struct world *w)
{
    for (size_t i = 0; i < w->n; i++)
        start(w, i);
}

static void assert_formed(struct world *w)
{
    struct arena arena;
    struct wire_ring ring;

    assert_true(all_decided(w));
    check_decided(w, 0);
    arena_init(&arena, WIRE_ARENA_BUDGET_RING);
    ring = unpack_ring(&w->nodes[0].ring, &arena);
    assert_int_equal(ring.epoch, 1);
    assert_int_equal(ring.n_members, w->n);
    arena_deinit(&arena);
}

/* ---- stories ----------------------------------------------------------------------------- */

static void a_lone_node_forms_a_cluster_by_itself(void **state)
{
    struct world *w = world_new(1, 1);

    (void)state;
    start_all(w);
    run(w, 10);
    assert_formed(w);
    world_free(w);
}

static void nodes_that_are_all_up_form_one_ring(void **state)
{
    (void)state;
    for (size_t n = 2; n <= NODES; n++) {
        struct world *w = world_new(n, 1);

        start_all(w);
        run(w, 500);
        assert_formed(w);
        assert_int_equal(form_deadline_ms(w->nodes[0].form), UINT64_MAX);
        world_free(w);
    }
}

static void nobody_decides_while_one_is_missing_and_the_others_say_whom_they_miss(void **state)
{
    struct world *w = world_new(3, 1);

    (void)state;
    start(w, 0);
    start(w, 1);
    run(w, 1000);
    assert_false(w->nodes[0].decided || w->nodes[1].decided);
    assert_int_equal(w->nodes[0].proposal.len, 0);
    assert_in_range(w->nodes[0].n_waits, 1, 20);
    assert_string_equal(w->nodes[0].why, "waiting to form a cluster with h:7403 (not reachable)");
    start(w, 2);
    run(w, 500);
    assert_formed(w);
    world_free(w);
}

static void nobody_decides_before_the_last_disk_has_synced(void **state)
{
    struct world *w = world_new(3, 1);

    (void)state;
    start_all(w);
    for (int i = 0; i < 300; i++) {
        /* node 2's disk never finishes */
        while (w->n_queue > 0)
            deliver(w, 0);
        for (size_t k = 0; k < 2; k++)
            if (w->nodes[k].writing)
                finish_write(w, k, 0);
        w->now_ms += 100;
        for (size_t k = 0; k < 3; k++)
            step(w, k, (struct form_event){.type = FORM_EVENT_TICK});
    }
    assert_true(w->nodes[2].writing);
    assert_true(w->nodes[0].proposal.len > 0 && w->nodes[1].proposal.len > 0);
    assert_false(w->nodes[0].decided || w->nodes[1].decided);
    run(w, 500);
    assert_formed(w);
    world_free(w);
}

/* Crashes node `who` after `at` steps, with what it was writing on the disk or not. */
static void crash_story(size_t who, uint32_t at, bool written, bool long_gone)
{
    struct world *w = world_new(3, 1);

    start_all(w);
    run(w, at);
    if (written && w->nodes[who].writing)
        set_buf(strcmp(w->nodes[who].writing_name, FORM_META_RING) == 0 ? &w->nodes[who].ring
                                                                        : &w->nodes[who].proposal,
                &w->nodes[who].writing_bytes);
    stop(w, who);
    run(w, long_gone ? 200 : 1);
    assert_false(all_decided(w));
    start(w, who);
    run(w, 1000);
    assert_false(any_failed(w));
    assert_formed(w);
    world_free(w);
}

static void a_crash_of_any_node_after_any_step_is_survived(void **state)
{
    struct world *w = world_new(3, 1);
    uint32_t n_steps;

    (void)state;
    start_all(w);
    run(w, 1000);
    n_steps = w->n_steps;
    assert_in_range(n_steps, 20, 200);
    world_free(w);
    for (size_t who = 0; who < 3; who++)
        for (uint32_t at = 0; at <= n_steps; at++)
            for (int variant = 0; variant < 4; variant++)
                crash_story(who, at, variant & 1, variant & 2);
}

static void a_straggler_learns_the_decision_from_any_member_when_the_leader_is_gone(void **state)
{
    struct world *w = world_new(3, 1);

    (void)state;
    start_all(w);
    while (!w->nodes[0].decided || !w->nodes[1].decided) {
        /* what the leader says to node 2 last is lost */
        for (size_t i = 0; w->nodes[0].decided && i < w->n_queue; i++)
            if (w->queue[i].to == 2)
                w->queue[i].to = 1;
        happen(w);
    }
    assert_false(w->nodes[2].decided);
    stop(w, 0);
    run(w, 200);
    assert_true(w->nodes[2].decided);
    check_decided(w, 2);
    world_free(w);
}

static void members_that_were_restarted_still_answer(void **state)
{
    struct world *w = world_new(3, 1);

    (void)state;
    start_all(w);
    while (!w->nodes[0].decided)
        happen(w);
    while (w->n_queue > 0)
        buf_deinit(&w->queue[--w->n_queue].bytes);
    stop(w, 0);
    start(w, 0);
    assert_null(w->nodes[0].form);
    run(w, 300);
    assert_formed(w);
    world_free(w);
}

/* ---- what cannot come right -------------------------------------------------------------- */

static void run_until_failure(struct world *w, size_t who, const char *part)
{
    for (int i = 0; i < 1000 && !w->nodes[who].failed; i++)
        happen(w);
    assert_true(w->nodes[who].failed);
    if (!strstr(w->nodes[who].why, part))
        fail_msg("\"%s\" does not say \"%s\"", w->nodes[who].why, part);
    for (size_t i = 0; i < w->n; i++)
        assert_false(w->nodes[i].decided && w->nodes[who].ring.len == 0 && who == i);
}

static void different_flags_are_refused_with_a_sentence(void **state)
{
    struct world *w = world_new(3, 1);

    (void)state;
    w->nodes[1].replicas = 2;
    start_all(w);
    run_until_failure(w, 0, "h:7402 was started with --replicas 2 and this node with 3");
    assert_false(all_decided(w));
    world_free(w);

    w = world_new(3, 1);
    w->nodes[1].own_list = true;
    start(w, 0);
    start(w, 1);
    run_until_failure(w, 0, "h:7402 was started with another --cluster list");
    world_free(w);
}

static void equal_names_ids_and_wrong_addresses_are_refused(void **state)
{
    struct world *w = world_new(3, 1);

    (void)state;
    w->nodes[2].member.name = slice_str("n1");
    start_all(w);
    run_until_failure(w, 0, "both named \"n1\"");
    world_free(w);

    w = world_new(3, 1);
    w->nodes[2].member.id = w->nodes[1].member.id;
    start_all(w);
    run_until_failure(w, 0, "same node id");
    world_free(w);

    w = world_new(3, 1);
    w->nodes[2].member.peer_address = slice_str("x:1");
    start_all(w);
    run_until_failure(w, 2, "--cluster names this node h:7403, but its peer address is x:1");
    world_free(w);
}

static void no_usable_weight_is_refused(void **state)
{
    struct world *w = world_new(2, 1);

    (void)state;
    w->nodes[0].member.weight = w->nodes[1].member.weight = 0;
    start_all(w);
    run_until_failure(w, 0, "cannot make the first ring");
    world_free(w);
}

static void a_failed_sync_ends_the_process(void **state)
{
    struct world *w = world_new(3, 1);

    (void)state;
    start_all(w);
    while (!w->nodes[1].writing)
        happen(w);
    finish_write(w, 1, -ERR_IO);
    assert_true(w->nodes[1].failed);
    run(w, 300);
    assert_false(w->nodes[0].decided || w->nodes[2].decided);
    world_free(w);
}

static void an_empty_node_that_meets_members_joins_them(void **state)
{
    struct world *w = world_new(3, 1);

    (void)state;
    start_all(w);
    run(w, 500);
    assert_formed(w);
    stop(w, 2);
    wipe(w, 2);
    start(w, 2);
    for (int i = 0; i < 1000 && !w->nodes[2].joins; i++)
        happen(w);
    assert_true(w->nodes[2].joins);
    assert_false(w->nodes[2].decided || w->nodes[2].writing);
    world_free(w);
}

static void another_proposal_is_never_taken(void **state)
{
    struct world *w = world_new(3, 1);

    (void)state;
    /* All hold a proposal; then the leader loses its disk and begins anew. */
    start_all(w);
    while (w->nodes[0].proposal.len == 0 || w->nodes[1].proposal.len == 0 ||
           w->nodes[2].proposal.len == 0)
        happen(w);
    while (w->n_queue > 0)
        buf_deinit(&w->queue[--w->n_queue].bytes);
    stop(w, 0);
    wipe(w, 0);
    start(w, 0);
    run_until_failure(w, 0, "earlier attempt");
    assert_false(w->nodes[1].decided || w->nodes[2].decided);
    world_free(w);
}

static void a_follower_with_a_new_disk_stops_the_forming(void **state)
{
    struct world *w = world_new(3, 1);

    (void)state;
    start_all(w);
    while (w->nodes[1].proposal.len == 0)
        happen(w);
    stop(w, 1);
    wipe(w, 1);
    start(w, 1);
    run_until_failure(w, 0, "new data directory");
    world_free(w);
}

/* ---- seeds ------------------------------------------------------------------------------- */

static void random_schedule(uint64_t seed)
{
    struct world *w = world_new(1 + seed % NODES, seed);

    w->in_order = false;
    w->loss = (uint32_t)prng_below(&w->prng, 60);
    w->dup = (uint32_t)prng_below(&w->prng, 40);
    for (int i = 0; i < 400; i++) {
        size_t who = prng_below(&w->prng, w->n);

        if (prng_below(&w->prng, 100) < 8) {
            if (w->nodes[who].alive)
                stop(w, who);
            else
                start(w, who);
        }
        happen(w);
    }
    w->loss = 0;
    for (size_t i = 0; i < w->n; i++)
        if (!w->nodes[i].alive)
            start(w, i);
    run(w, 3000);
    if (any_failed(w) || !all_decided(w))
        fail_msg("seed %llu", (unsigned long long)seed);
    assert_formed(w);
    world_free(w);
}

static void random_schedules_with_loss_and_crashes_all_form(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= (test_is_quick() ? 100 : 400); seed++)
        random_schedule(seed);
}

static void random_schedules_with_lost_disks_form_or_fail_and_never_disagree(void **state)
{
    uint32_t n_formed = 0, n_failed = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct world *w = world_new(3, seed);
        size_t who = seed % 3;

        w->in_order = false;
        start_all(w);
        run(w, (uint32_t)prng_below(&w->prng, 120));
        if (w->nodes[who].ring.len == 0) {
            stop(w, who);
            wipe(w, who);
            while (w->n_queue > 0) /* links die with their node */
                buf_deinit(&w->queue[--w->n_queue].bytes);
            start(w, who);
        }
        for (int i = 0; i < 1000 && !any_failed(w) && !all_decided(w); i++)
            happen(w);
        n_formed += all_decided(w);
        n_failed += any_failed(w);
        if (!all_decided(w) && !any_failed(w))
            fail_msg("seed %llu hangs", (unsigned long long)seed);
        world_free(w);
    }
    assert_true(n_formed > 20 && n_failed > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lone_node_forms_a_cluster_by_itself),
        cmocka_unit_test(nodes_that_are_all_up_form_one_ring),
        cmocka_unit_test(nobody_decides_while_one_is_missing_and_the_others_say_whom_they_miss),
        cmocka_unit_test(nobody_decides_before_the_last_disk_has_synced),
        cmocka_unit_test(a_crash_of_any_node_after_any_step_is_survived),
        cmocka_unit_test(a_straggler_learns_the_decision_from_any_member_when_the_leader_is_gone),
        cmocka_unit_test(members_that_were_restarted_still_answer),
        cmocka_unit_test(different_flags_are_refused_with_a_sentence),
        cmocka_unit_test(equal_names_ids_and_wrong_addresses_are_refused),
        cmocka_unit_test(no_usable_weight_is_refused),
        cmocka_unit_test(a_failed_sync_ends_the_process),
        cmocka_unit_test(an_empty_node_that_meets_members_joins_them),
        cmocka_unit_test(another_proposal_is_never_taken),
        cmocka_unit_test(a_follower_with_a_new_disk_stops_the_forming),
        cmocka_unit_test(random_schedules_with_loss_and_crashes_all_form),
        cmocka_unit_test(random_schedules_with_lost_disks_form_or_fail_and_never_disagree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
