/* Stories of server/core/membership_ring: who is behind asks for the ring, and what it takes of
 * what it is told. And of server/core/ring_next: which ring may follow which. */
#include "test.h"

#include <stdio.h>

#include "server/core/membership.h"

#define N 6u /* nodes, this one included: handle 0 */
#define BOOT 5u
#define EPOCH 7u
#define TRACE_BYTES 512u

struct rig {
    struct membership *m;
    struct arena arena;
    struct wire_ring wire; /* of EPOCH */
    uint32_t *fence;       /* of wire: may be changed */
    struct ring *held;
    uint64_t now_ms;
    char trace[TRACE_BYTES]; /* what was done, since it was looked at last */
};

static struct wire_id id_of(uint32_t handle)
{
    struct wire_id id = {{'n', (uint8_t)handle}};

    return id;
}

static uint32_t intern(void *ctx, const struct wire_id *id)
{
    return id->b[1];
}

#define note(rig, ...) test_note((rig)->trace, sizeof((rig)->trace), __VA_ARGS__)

static void collect(struct rig *rig, const struct membership_effects *fx)
{
    for (uint32_t i = 0; i < fx->n; i++) {
        const struct membership_effect *e = &fx->list[i];

        if (e->type == MEMBERSHIP_RING_ASK)
            note(rig, "ask %u. ", e->node);
        else if (e->type == MEMBERSHIP_RING_TELL && e->error)
            note(rig, "%u: %s. ", e->node, err_name(e->error));
        else if (e->type == MEMBERSHIP_RING_TELL)
            note(rig, "tell %u. ", e->node);
        else if (e->type == MEMBERSHIP_RING_TAKE)
            note(rig, "take %u's. ", e->node);
        else if (e->type == MEMBERSHIP_RING_REFUSED)
            note(rig, "not %u's: %s. ", e->node, e->why);
    }
}

static void feed(struct rig *rig, struct membership_event event)
{
    static struct membership_effects fx;
    int r;

    event.now_ms = rig->now_ms;
    do {
        r = membership_step(rig->m, &event, &fx);
        collect(rig, &fx);
        event.type = MEMBERSHIP_MORE;
    } while (r == STEP_MORE);
}

static void expect(struct rig *rig, const char *what)
{
    assert_string_equal(rig->trace, what);
    rig->trace[0] = 0;
}

static void link_up(struct rig *rig, uint32_t node, uint64_t epoch)
{
    feed(rig, (struct membership_event){.type = MEMBERSHIP_LINK_UP,
                                        .u.link = {node, id_of(node), 1, epoch}});
}

/* Anything at all: its envelope says the epoch. */
static void hear(struct rig *rig, uint32_t node, uint64_t epoch)
{
    struct wire_gossip gossip = {.kind = GOSSIP_RUMOURS};

    feed(rig, (struct membership_event){
                  .type = MEMBERSHIP_MESSAGE,
                  .u.message = {.node = node, .gossip = &gossip, .ring_epoch = epoch}});
}

static void reply(struct rig *rig, uint32_t node, const struct wire_ring *ring)
{
    feed(rig, (struct membership_event){.type = MEMBERSHIP_RING_REPLY,
                                        .u.reply = {.node = node, .ring = ring}});
}

static struct wire_ring ring_of(const struct rig *rig, uint64_t epoch)
{
    struct wire_ring wire = rig->wire;

    wire.epoch = epoch;
    return wire;
}

static void reply_epoch(struct rig *rig, uint32_t node, uint64_t epoch)
{
    struct wire_ring wire = ring_of(rig, epoch);

    reply(rig, node, &wire);
}

static void serve(struct rig *rig, uint64_t epoch)
{
    struct wire_ring wire = ring_of(rig, epoch);

    ring_unref(rig->held);
    assert_int_equal(ring_new(&wire, NULL, NULL, &rig->held), 0);
    feed(rig, (struct membership_event){.type = MEMBERSHIP_RING, .u.ring = rig->held});
}

static void asked(struct rig *rig, uint32_t node, uint64_t epoch)
{
    feed(rig, (struct membership_event){.type = MEMBERSHIP_RING_ASKED,
                                        .u.asked = {.node = node, .ring_epoch = epoch}});
}

/* Nobody says anything; those who are silent are not taken for dead so soon. */
static void wait(struct rig *rig, uint64_t ms)
{
    for (uint64_t end_ms = rig->now_ms + ms; rig->now_ms < end_ms;) {
        rig->now_ms += 10;
        feed(rig, (struct membership_event){.type = MEMBERSHIP_TICK});
    }
}

static void form_ring(struct rig *rig, struct wire_member members[N])
{
    static char names[N][3];
    struct ring_form_input in = {.members = members,
                                 .n_members = N,
                                 .replicas = 3,
                                 .n_partitions = 64,
                                 .cluster_id = {{1}},
                                 .space = {7, "0123456789abcde"}};

    for (uint32_t i = 0; i < N; i++) {
        snprintf(names[i], sizeof(names[i]), "n%c", (char)('0' + i));
        members[i] = (struct wire_member){.id = id_of(i), .name = slice_str(names[i]), .weight = 1};
    }
    arena_init(&rig->arena, WIRE_ARENA_BUDGET_RING);
    assert_int_equal(ring_form(&in, &rig->arena, &rig->wire), 0);
    rig->fence = arena_alloc(&rig->arena, 64 * sizeof(*rig->fence));
    assert_non_null(rig->fence);
    memcpy(rig->fence, rig->wire.fence, 64 * sizeof(*rig->fence));
    rig->fence[3] = 5;
    rig->wire.fence = rig->fence;
}

/* Its slots go to another, in incarnations of their own. */
static void replace_member(struct rig *rig, struct wire_ring *wire, uint8_t was, uint8_t is)
{
    size_t n = (size_t)wire->n_partitions * wire->n_slots;
    struct wire_member *members = arena_alloc(&rig->arena, N * sizeof(*members));
    uint64_t *incarnation = arena_alloc(&rig->arena, n * sizeof(*incarnation));

    assert_true(members && incarnation);
    memcpy(members, wire->members, N * sizeof(*members));
    memcpy(incarnation, wire->slot_incarnation, n * sizeof(*incarnation));
    for (size_t i = 0; i < n; i++)
        if (members[wire->slot_member[i]].id.b[1] == was)
            incarnation[i] += wire->next_incarnation;
    for (uint32_t i = 0; i < N; i++)
        if (members[i].id.b[1] == was)
            members[i].id.b[1] = is;
    wire->members = members;
    wire->slot_incarnation = incarnation;
    wire->next_incarnation *= 2;
}

/* Holds EPOCH, all others are there and have it too. candidate: it names this node not. */
static void set_up_as(struct rig *rig, bool candidate)
{
    struct wire_member members[N];
    struct membership_config config = {
        .profile = {.member = {.id = id_of(0), .name = slice_str("self")},
                    .software = slice_str("quoitd"),
                    .candidate = candidate},
        .boot = BOOT,
        .seed = 1,
        .now_ms = 1000,
        .intern = intern};

    memset(rig, 0, sizeof(*rig));
    rig->now_ms = config.now_ms;
    rig->m = membership_new(&config);
    assert_non_null(rig->m);
    form_ring(rig, members);
    if (candidate)
        replace_member(rig, &rig->wire, 0, 99);
    feed(rig, (struct membership_event){.type = MEMBERSHIP_EXPECT,
                                        .u.expect = {.members = members, .n = N}});
    serve(rig, EPOCH);
    for (uint32_t i = 1; i < N; i++)
        link_up(rig, i, EPOCH);
    expect(rig, "");
}

static void set_up(struct rig *rig)
{
    set_up_as(rig, false);
}

static void tear_down(struct rig *rig)
{
    membership_free(rig->m);
    ring_unref(rig->held);
    arena_deinit(&rig->arena);
}

/* ---- asking -------------------------------------------------------------------------------- */

static void who_is_behind_asks_takes_and_serves(void **state)
{
    struct rig rig;

    set_up(&rig);
    hear(&rig, 2, EPOCH - 1); /* it is the one who is behind */
    hear(&rig, 3, EPOCH);
    wait(&rig, 300);
    expect(&rig, "");
    hear(&rig, 2, EPOCH + 1);
    expect(&rig, "ask 2. ");
    reply_epoch(&rig, 2, EPOCH + 1);
    expect(&rig, "take 2's. ");
    hear(&rig, 4, EPOCH + 1);
    wait(&rig, 300);
    expect(&rig, ""); /* until it is on disk */
    serve(&rig, EPOCH + 1);
    hear(&rig, 3, EPOCH + 1);
    wait(&rig, 300);
    expect(&rig, "");
    tear_down(&rig);
}

static void a_hello_tells_as_well(void **state)
{
    struct rig rig;

    set_up(&rig);
    link_up(&rig, 4, EPOCH + 2); /* we have been down meanwhile, or it was there */
    expect(&rig, "ask 4. ");
    reply_epoch(&rig, 4, EPOCH + 2);
    expect(&rig, "take 4's. ");
    tear_down(&rig);
}

/* What was asked on the one before may be lost. */
static void on_a_new_link_it_is_asked_again(void **state)
{
    struct rig rig;

    set_up(&rig);
    link_up(&rig, 4, EPOCH + 1);
    link_up(&rig, 4, EPOCH + 1);
    expect(&rig, "ask 4. ");
    wait(&rig, MEMBERSHIP_RING_ASK_MS);
    expect(&rig, "ask 4. ");
    tear_down(&rig);
}

static void one_is_asked_at_a_time_and_not_too_often(void **state)
{
    struct rig rig;

    set_up(&rig);
    hear(&rig, 1, EPOCH + 1);
    hear(&rig, 2, EPOCH + 1);
    hear(&rig, 3, EPOCH + 3);
    expect(&rig, "ask 1. ");
    reply_epoch(&rig, 1, EPOCH + 1);
    serve(&rig, EPOCH + 1);
    expect(&rig, "take 1's. ");
    wait(&rig, MEMBERSHIP_RING_ASK_MS - 10);
    expect(&rig, "");
    wait(&rig, 10);
    expect(&rig, "ask 3. "); /* there is a newer one still */
    reply_epoch(&rig, 3, EPOCH + 3);
    expect(&rig, "take 3's. ");
    tear_down(&rig);
}

static void whoever_does_not_answer_is_left_alone_for_another(void **state)
{
    struct rig rig;

    set_up(&rig);
    hear(&rig, 1, EPOCH + 9);
    hear(&rig, 2, EPOCH + 1);
    expect(&rig, "ask 1. ");
    wait(&rig, MEMBERSHIP_RING_ANSWER_MS - 10);
    expect(&rig, "");
    hear(&rig, 2, EPOCH + 1); /* it is still there */
    hear(&rig, 1, EPOCH + 9);
    wait(&rig, 10);
    expect(&rig, "ask 2. ");
    reply(&rig, 2, NULL); /* OVERLOADED */
    wait(&rig, MEMBERSHIP_RING_RETRY_MS - 10);
    expect(&rig, "");
    wait(&rig, 10);
    expect(&rig, "ask 1. "); /* of the two that have failed the one with the newest */
    reply_epoch(&rig, 1, EPOCH + 9);
    expect(&rig, "take 1's. ");
    tear_down(&rig);
}

static void a_late_answer_is_as_good(void **state)
{
    struct rig rig;

    set_up(&rig);
    hear(&rig, 1, EPOCH + 1);
    hear(&rig, 2, EPOCH + 1);
    wait(&rig, MEMBERSHIP_RING_ANSWER_MS);
    expect(&rig, "ask 1. ask 2. ");
    reply_epoch(&rig, 1, EPOCH + 1);
    expect(&rig, "take 1's. ");
    reply_epoch(&rig, 2, EPOCH + 1);
    serve(&rig, EPOCH + 1);
    reply_epoch(&rig, 2, EPOCH + 2); /* nobody has asked for it */
    expect(&rig, "");
    tear_down(&rig);
}

static void a_disk_that_takes_no_ring_is_tried_again_later(void **state)
{
    struct rig rig;

    set_up(&rig);
    hear(&rig, 1, EPOCH + 1);
    reply_epoch(&rig, 1, EPOCH + 1);
    feed(&rig, (struct membership_event){.type = MEMBERSHIP_RING_LOST});
    expect(&rig, "ask 1. take 1's. ");
    for (uint32_t i = 1; i < N; i++) /* however many have it */
        hear(&rig, i, EPOCH + 1);
    wait(&rig, MEMBERSHIP_RING_RETRY_MS - 10);
    expect(&rig, "");
    wait(&rig, 10);
    assert_memory_equal(rig.trace, "ask ", 4);
    tear_down(&rig);
}

static void who_stops_asks_nobody(void **state)
{
    struct rig rig;

    set_up(&rig);
    hear(&rig, 1, EPOCH + 1);
    expect(&rig, "ask 1. ");
    feed(&rig, (struct membership_event){.type = MEMBERSHIP_STOP});
    reply_epoch(&rig, 1, EPOCH + 1);
    hear(&rig, 2, EPOCH + 1);
    wait(&rig, 5000);
    expect(&rig, "");
    tear_down(&rig);
}

/* Others hear of it before they would have asked us anything. */
static void a_new_ring_is_news(void **state)
{
    struct membership_stats before, after;
    struct rig rig;

    set_up(&rig);
    wait(&rig, 3000); /* what there was to tell is told */
    membership_stats(rig.m, &before);
    serve(&rig, EPOCH + 1);
    membership_stats(rig.m, &after);
    assert_true(after.n_sent >= before.n_sent + MEMBERSHIP_RUMOUR_NODES);
    tear_down(&rig);
}

/* ---- telling ------------------------------------------------------------------------------- */

static void who_asks_is_told_but_not_all_at_once(void **state)
{
    struct rig rig;

    set_up(&rig);
    asked(&rig, 1, EPOCH - 1);
    expect(&rig, "tell 1. ");
    asked(&rig, UINT32_MAX, EPOCH - 1);
    expect(&rig, "tell 4294967295. ");
    asked(&rig, 1, EPOCH); /* it has it */
    expect(&rig, "");
    for (uint32_t i = 2; i < MEMBERSHIP_RING_TELLS; i++) {
        asked(&rig, 3, EPOCH - 1);
        expect(&rig, "tell 3. ");
    }
    asked(&rig, 4, EPOCH - 1);
    expect(&rig, "4: OVERLOADED. ");
    rig.now_ms += MEMBERSHIP_RING_TELL_MS;
    asked(&rig, 4, EPOCH - 1);
    expect(&rig, "tell 4. ");
    asked(&rig, 5, EPOCH + 1); /* so it has what we want */
    expect(&rig, "ask 5. ");
    tear_down(&rig);
}

/* ---- what is not taken --------------------------------------------------------------------- */

static void what_is_bad_is_refused_and_not_asked_for_again(void **state)
{
    struct wire_ring bad;
    struct rig rig;

    set_up(&rig);
    bad = ring_of(&rig, EPOCH + 1);
    bad.next_incarnation--;
    hear(&rig, 1, EPOCH + 1);
    reply(&rig, 1, &bad);
    expect(&rig, "ask 1. not 1's: it contradicts itself. ");
    for (int i = 0; i < 20; i++) {
        wait(&rig, 100);
        hear(&rig, 1, EPOCH + 1);
    }
    expect(&rig, "");
    hear(&rig, 2, EPOCH + 1); /* another may have a good one */
    reply_epoch(&rig, 2, EPOCH + 1);
    expect(&rig, "ask 2. take 2's. ");
    serve(&rig, EPOCH + 1);
    hear(&rig, 1, EPOCH + 2); /* and so may this one, next time */
    wait(&rig, MEMBERSHIP_RING_RETRY_MS);
    expect(&rig, "ask 1. ");
    reply_epoch(&rig, 1, EPOCH + 1); /* it had none */
    expect(&rig, "not 1's: it is not newer. ");
    tear_down(&rig);
}

static void who_had_a_bad_one_may_have_a_good_one_later(void **state)
{
    struct wire_ring bad;
    struct rig rig;

    set_up(&rig);
    bad = ring_of(&rig, EPOCH + 1);
    bad.next_incarnation--;
    hear(&rig, 1, EPOCH + 1);
    reply(&rig, 1, &bad);
    wait(&rig, 100);
    hear(&rig, 1, EPOCH + 2);
    expect(&rig, "ask 1. not 1's: it contradicts itself. ");
    wait(&rig, MEMBERSHIP_RING_RETRY_MS);
    expect(&rig, "ask 1. ");
    tear_down(&rig);
}

static void a_ring_without_this_node_is_left_alone(void **state)
{
    struct wire_ring other;
    struct rig rig;

    set_up(&rig);
    other = ring_of(&rig, EPOCH + 1);
    replace_member(&rig, &other, 0, 99);
    hear(&rig, 1, EPOCH + 1);
    reply(&rig, 1, &other);
    expect(&rig, "ask 1. not 1's: it does not name this node. ");
    for (uint32_t i = 1; i < N; i++)
        hear(&rig, i, EPOCH + 1);
    wait(&rig, 2000);
    expect(&rig, "");
    hear(&rig, 2, EPOCH + 2); /* perhaps it is named again */
    reply_epoch(&rig, 2, EPOCH + 2);
    expect(&rig, "ask 2. take 2's. ");
    tear_down(&rig);
}

static bool is_candidate(const struct rig *rig)
{
    struct membership_view view;

    assert_true(membership_view(rig->m, 0, &view));
    return view.profile->candidate;
}

static void a_candidate_takes_any_until_one_names_it(void **state)
{
    struct rig rig;

    set_up_as(&rig, true);
    hear(&rig, 1, EPOCH + 1);
    reply_epoch(&rig, 1, EPOCH + 1);
    expect(&rig, "ask 1. take 1's. ");
    serve(&rig, EPOCH + 1);
    assert_true(is_candidate(&rig));
    replace_member(&rig, &rig.wire, 99, 0);
    wait(&rig, 100);
    hear(&rig, 2, EPOCH + 2);
    reply_epoch(&rig, 2, EPOCH + 2);
    expect(&rig, "ask 2. take 2's. ");
    serve(&rig, EPOCH + 2);
    assert_false(is_candidate(&rig));
    replace_member(&rig, &rig.wire, 0, 99);
    wait(&rig, 100);
    hear(&rig, 3, EPOCH + 3);
    reply_epoch(&rig, 3, EPOCH + 3);
    expect(&rig, "ask 3. not 3's: it does not name this node. ");
    tear_down(&rig);
}

/* ---- which ring may follow ----------------------------------------------------------------- */

static const char *fault(const struct rig *rig, const struct wire_ring *wire)
{
    struct ring *next;
    const char *why;

    assert_int_equal(ring_new(wire, NULL, NULL, &next), 0);
    why = ring_next_fault(rig->held, next);
    ring_unref(next);
    return why;
}

static void a_ring_follows_if_nothing_goes_backward(void **state)
{
    struct wire_ring next;
    struct rig rig;

    set_up(&rig);
    next = ring_of(&rig, EPOCH + 1);
    assert_null(fault(&rig, &next));
    next.next_incarnation++;
    assert_null(fault(&rig, &next));
    replace_member(&rig, &next, 2, 77);
    assert_null(fault(&rig, &next));
    next = ring_of(&rig, EPOCH);
    assert_string_equal(fault(&rig, &next), "it is not newer");
    next = ring_of(&rig, EPOCH + 1);
    next.cluster_id.b[5] ^= 1;
    assert_string_equal(fault(&rig, &next), "it is another cluster's");
    next = ring_of(&rig, EPOCH + 1);
    next.space.secret[15] ^= 1;
    assert_string_equal(fault(&rig, &next), "it places keys by other tokens");
    tear_down(&rig);
}

static void numbers_that_only_grow_are_looked_at(void **state)
{
    struct wire_ring next;
    struct rig rig;

    set_up(&rig);
    rig.wire.next_incarnation += 2;
    serve(&rig, EPOCH + 1);
    next = ring_of(&rig, EPOCH + 2);
    next.next_incarnation--;
    assert_string_equal(fault(&rig, &next), "its number of the next incarnation goes backward");
    next.next_incarnation++;
    rig.fence[3]--;
    assert_string_equal(fault(&rig, &next), "a fence version goes backward");
    rig.fence[3] += 2;
    assert_null(fault(&rig, &next));
    tear_down(&rig);
}

/* An incarnation is one residence of one slot on one node. */
static void incarnations_stay_where_they_are(void **state)
{
    size_t n = (size_t)64 * 3;
    struct wire_ring next;
    uint64_t *incarnation;
    uint32_t *member;
    struct rig rig;

    set_up(&rig);
    next = ring_of(&rig, EPOCH + 1);
    assert_int_equal(next.n_slots, 3);
    incarnation = arena_alloc(&rig.arena, n * sizeof(*incarnation));
    member = arena_alloc(&rig.arena, n * sizeof(*member));
    assert_true(incarnation && member);
    memcpy(incarnation, next.slot_incarnation, n * sizeof(*incarnation));
    memcpy(member, next.slot_member, n * sizeof(*member));
    next.slot_incarnation = incarnation;
    next.slot_member = member;
    incarnation[n - 1] = next.slot_incarnation[n - 2]; /* two slots change places */
    incarnation[n - 2] = rig.wire.slot_incarnation[n - 1];
    assert_string_equal(fault(&rig, &next), "an incarnation has moved to another slot or node");
    memcpy(incarnation, rig.wire.slot_incarnation, n * sizeof(*incarnation));
    assert_null(fault(&rig, &next));
    for (uint32_t m = 0; m < N; m++) /* whoever holds none of this partition */
        if (m != member[0] && m != member[1] && m != member[2]) {
            member[0] = m;
            break;
        }
    assert_string_equal(fault(&rig, &next), "an incarnation has moved to another slot or node");
    incarnation[0] = next.next_incarnation++;
    assert_null(fault(&rig, &next));
    tear_down(&rig);
}

/* Each half keeps what the whole has promised. */
static void partitions_may_be_split_and_not_joined(void **state)
{
    struct wire_ring_tables {
        uint32_t fence[128], primary[128], member[128 * 3], state[128 * 3];
        uint64_t incarnation[128 * 3];
    } *t = calloc(1, sizeof(*t));
    struct wire_ring next;
    struct rig rig;

    assert_non_null(t);
    set_up(&rig);
    next = ring_of(&rig, EPOCH + 1);
    for (uint32_t p = 0; p < 128; p++) {
        t->fence[p] = rig.fence[p / 2];
        t->primary[p] = rig.wire.primary[p / 2];
        for (uint32_t s = 0; s < 3; s++) {
            t->member[p * 3 + s] = rig.wire.slot_member[p / 2 * 3 + s];
            t->state[p * 3 + s] = rig.wire.slot_state[p / 2 * 3 + s];
            t->incarnation[p * 3 + s] = rig.wire.slot_incarnation[p / 2 * 3 + s];
        }
    }
    next.n_partitions = 128;
    next.fence = t->fence;
    next.primary = t->primary;
    next.slot_member = t->member;
    next.slot_state = t->state;
    next.slot_incarnation = t->incarnation;
    assert_null(fault(&rig, &next));
    t->fence[7]--; /* of what was partition 3 */
    assert_string_equal(fault(&rig, &next), "a fence version goes backward");
    t->fence[7]++;
    ring_unref(rig.held);
    assert_int_equal(ring_new(&next, NULL, NULL, &rig.held), 0);
    next = ring_of(&rig, EPOCH + 2);
    assert_string_equal(fault(&rig, &next), "it has fewer partitions");
    free(t);
    tear_down(&rig);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_behind_asks_takes_and_serves),
        cmocka_unit_test(a_hello_tells_as_well),
        cmocka_unit_test(on_a_new_link_it_is_asked_again),
        cmocka_unit_test(one_is_asked_at_a_time_and_not_too_often),
        cmocka_unit_test(whoever_does_not_answer_is_left_alone_for_another),
        cmocka_unit_test(a_late_answer_is_as_good),
        cmocka_unit_test(a_disk_that_takes_no_ring_is_tried_again_later),
        cmocka_unit_test(who_stops_asks_nobody),
        cmocka_unit_test(a_new_ring_is_news),
        cmocka_unit_test(who_asks_is_told_but_not_all_at_once),
        cmocka_unit_test(what_is_bad_is_refused_and_not_asked_for_again),
        cmocka_unit_test(who_had_a_bad_one_may_have_a_good_one_later),
        cmocka_unit_test(a_ring_without_this_node_is_left_alone),
        cmocka_unit_test(a_candidate_takes_any_until_one_names_it),
        cmocka_unit_test(a_ring_follows_if_nothing_goes_backward),
        cmocka_unit_test(numbers_that_only_grow_are_looked_at),
        cmocka_unit_test(incarnations_stay_where_they_are),
        cmocka_unit_test(partitions_may_be_split_and_not_joined),
    };

    return cmocka_run_group_tests_name("membership_ring", tests, NULL, NULL);
}
