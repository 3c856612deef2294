/* Stories of server/core/membership_clock: a node, its wall clock, and what others say theirs show.
 * The others answer each ping after a while; what they say is true up to an error of their own. */
#include "test.h"

#include "proto/limits.h"
#include "server/core/membership.h"

#define TRUE_MS 1700000000000u /* the true time when the story begins */
#define HOUR_MS 3600000
#define OTHERS_MAX 9u
#define ANSWERS_MAX 64u
#define STEP_MS 10u
#define SILENT INT64_MIN /* says nothing of its clock */

struct answer {
    uint32_t from;
    uint64_t number, due_ms;
};

struct rig {
    struct membership *m;
    uint64_t now_ms, began_ms;
    int64_t error_ms; /* of our clock */
    int64_t others_error_ms[OTHERS_MAX];
    uint64_t delay_ms; /* of an answer */
    struct answer answers[ANSWERS_MAX];
    uint32_t n_answers;
    uint32_t n_judged; /* since it was cleared */
    bool right, watched;
    uint64_t behind_ms;
    int64_t offset_ms; /* as judged */
};

static struct wire_id id_of(uint32_t handle)
{
    return (struct wire_id){{'n', (uint8_t)handle}};
}

static uint32_t intern(void *ctx, const struct wire_id *id)
{
    return id->b[1];
}

static uint64_t true_ms(const struct rig *rig)
{
    return TRUE_MS + (rig->now_ms - rig->began_ms);
}

static void collect(struct rig *rig, const struct membership_effects *fx)
{
    for (uint32_t i = 0; i < fx->n; i++) {
        const struct membership_effect *e = &fx->list[i];

        if (e->type == MEMBERSHIP_CLOCK) {
            rig->n_judged++;
            rig->right = e->clock.right;
            rig->behind_ms = e->clock.behind_ms;
            rig->offset_ms = e->clock.offset_ms;
        } else if (e->type == MEMBERSHIP_SEND && e->gossip.kind == GOSSIP_PING) {
            assert_true(rig->n_answers < ANSWERS_MAX);
            rig->answers[rig->n_answers++] =
                (struct answer){e->node, e->gossip.number, rig->now_ms + rig->delay_ms};
        }
    }
}

static void feed(struct rig *rig, struct membership_event event)
{
    static struct membership_effects fx;
    int r;

    event.now_ms = rig->now_ms;
    event.wall_ms = rig->watched ? (uint64_t)((int64_t)true_ms(rig) + rig->error_ms) : 0;
    do {
        r = membership_step(rig->m, &event, &fx);
        collect(rig, &fx);
        event.type = MEMBERSHIP_MORE;
    } while (r == STEP_MORE);
}

static void answer(struct rig *rig, struct answer a)
{
    int64_t error_ms = rig->others_error_ms[a.from];
    struct wire_gossip ack = {.kind = GOSSIP_ACK, .number = a.number};

    if (error_ms != SILENT)
        ack.wall_ms = (uint64_t)((int64_t)true_ms(rig) + error_ms);
    feed(rig, (struct membership_event){.type = MEMBERSHIP_MESSAGE,
                                        .u.message = {.node = a.from, .gossip = &ack}});
}

static void pass(struct rig *rig, uint64_t ms)
{
    for (uint64_t end_ms = rig->now_ms + ms; rig->now_ms < end_ms;) {
        rig->now_ms += STEP_MS;
        feed(rig, (struct membership_event){.type = MEMBERSHIP_TICK});
        for (uint32_t i = 0; i < rig->n_answers;) {
            struct answer a = rig->answers[i];

            if (a.due_ms > rig->now_ms) {
                i++;
                continue;
            }
            rig->answers[i] = rig->answers[--rig->n_answers];
            answer(rig, a);
        }
    }
}

static void expect(struct rig *rig, uint32_t n)
{
    struct wire_member members[OTHERS_MAX + 1] = {{.id = id_of(0)}};

    for (uint32_t i = 1; i <= n; i++)
        members[i] = (struct wire_member){.id = id_of(i)};
    feed(rig, (struct membership_event){.type = MEMBERSHIP_EXPECT,
                                        .u.expect = {.members = members, .n = n + 1}});
}

static void link_all(struct rig *rig, uint32_t n)
{
    for (uint32_t i = 1; i <= n; i++)
        feed(rig,
             (struct membership_event){.type = MEMBERSHIP_LINK_UP, .u.link = {i, id_of(i), 1}});
}

/* A node that is watched, among n others, who are not there yet. */
static void set_up(struct rig *rig, uint32_t n)
{
    struct membership_config config = {
        .profile = {.member = {.id = id_of(0), .name = slice_str("self")},
                    .software = slice_str("quoitd")},
        .boot = 1,
        .seed = 1,
        .now_ms = 5000,
        .intern = intern};

    *rig = (struct rig){.now_ms = config.now_ms, .began_ms = config.now_ms, .watched = true};
    rig->m = membership_new(&config);
    assert_non_null(rig->m);
    expect(rig, n);
}

/* The same, and time for a verdict. */
static void begin(struct rig *rig, uint32_t n)
{
    set_up(rig, n);
    link_all(rig, n);
    pass(rig, 1500);
    assert_int_equal(rig->n_judged, 1);
    assert_true(rig->right);
    rig->n_judged = 0;
}

static void tear_down(struct rig *rig)
{
    membership_free(rig->m);
}

static void a_clock_is_judged_by_what_others_say(void **state)
{
    struct rig rig;

    set_up(&rig, 2);
    link_all(&rig, 2);
    assert_int_equal(rig.n_judged, 0); /* nobody has said anything */
    pass(&rig, 1000);
    assert_int_equal(rig.n_judged, 1);
    assert_true(rig.right && rig.behind_ms == 0);
    tear_down(&rig);
}

static void a_step_ahead_is_judged_anew(void **state)
{
    struct rig rig;

    begin(&rig, 2);
    rig.error_ms = 3 * HOUR_MS;
    pass(&rig, 1000);
    assert_int_equal(rig.n_judged, 1);
    assert_false(rig.right);
    rig.error_ms = 0;
    pass(&rig, 1000);
    assert_int_equal(rig.n_judged, 2);
    assert_true(rig.right && rig.behind_ms == 0);
    tear_down(&rig);
}

static void a_step_to_the_right_time_is_right(void **state)
{
    struct rig rig;

    begin(&rig, 2);
    for (uint32_t i = 1; i <= 2; i++) /* a machine that slept, and its neighbours */
        rig.others_error_ms[i] = HOUR_MS;
    rig.error_ms = HOUR_MS;
    pass(&rig, 1000);
    assert_int_equal(rig.n_judged, 1);
    assert_true(rig.right && rig.behind_ms == 0);
    tear_down(&rig);
}

static void a_clock_that_runs_ahead_slowly_is_found_out(void **state)
{
    struct rig rig;

    begin(&rig, 2);
    for (int i = 0; i < 8; i++) {
        assert_true(rig.right || rig.error_ms > (int64_t)LIMIT_CLOCK_AHEAD_MS);
        rig.error_ms += 100;
        pass(&rig, 500);
    }
    assert_false(rig.right);
    tear_down(&rig);
}

/* Of which a worker that looks seldom sees one large step: it waits for a verdict. */
static void two_small_steps_to_the_right_time(struct rig *rig)
{
    int64_t before_ms = rig->offset_ms;

    rig->n_judged = 0;
    for (int i = 0; i < 2; i++) {
        for (uint32_t k = 1; k < OTHERS_MAX; k++)
            rig->others_error_ms[k] += 300;
        rig->error_ms += 300;
        pass(rig, 100);
    }
    pass(rig, 500);
    assert_true(rig->n_judged > 0 && rig->right && rig->behind_ms == 0);
    assert_int_equal(rig->offset_ms, before_ms + 600);
}

static void small_steps_that_add_up_are_told(void **state)
{
    struct rig rig;

    begin(&rig, 2);
    two_small_steps_to_the_right_time(&rig);
    rig.n_judged = 0;
    rig.error_ms += LIMIT_CLOCK_AHEAD_MS / 4; /* each within what a worker follows by itself */
    pass(&rig, 5000);
    assert_int_equal(rig.n_judged, 0);
    tear_down(&rig);
}

static void small_steps_of_the_only_member_are_told(void **state)
{
    struct rig rig;

    set_up(&rig, 0);
    two_small_steps_to_the_right_time(&rig);
    tear_down(&rig);
}

/* Nobody is left who could say more. */
static void small_steps_while_the_others_are_away_are_told(void **state)
{
    struct rig rig;

    set_up(&rig, 2);
    pass(&rig, MEMBERSHIP_CLOCK_ALONE_MS + STEP_MS);
    two_small_steps_to_the_right_time(&rig);
    tear_down(&rig);
}

static void late_answers_feign_nothing(void **state)
{
    struct rig rig;

    begin(&rig, 2);
    rig.delay_ms = 190;
    rig.error_ms = LIMIT_CLOCK_AHEAD_MS; /* all that is granted, and the delay on top of it */
    pass(&rig, 3000);
    rig.error_ms = -(int64_t)LIMIT_CLOCK_AHEAD_MS / 2;
    pass(&rig, 3000);
    assert_true(rig.right && rig.behind_ms == 0);
    tear_down(&rig);
}

static void the_majority_says_who_is_off(void **state)
{
    struct rig rig;

    begin(&rig, 4);
    rig.others_error_ms[1] = rig.others_error_ms[2] = -3 * HOUR_MS;
    pass(&rig, 4000);
    assert_int_equal(rig.n_judged, 0);
    rig.others_error_ms[3] = -3 * HOUR_MS;
    pass(&rig, 4000);
    assert_int_equal(rig.n_judged, 1);
    assert_false(rig.right);
    tear_down(&rig);
}

static void who_is_behind_learns_by_how_much(void **state)
{
    struct rig rig;

    begin(&rig, 3);
    rig.delay_ms = 50;
    rig.others_error_ms[1] = 9 * HOUR_MS; /* one of them is off as well */
    rig.error_ms = -3 * HOUR_MS;
    pass(&rig, 2000);
    assert_true(rig.right);
    assert_in_range(rig.behind_ms, 3 * HOUR_MS - 100, 3 * HOUR_MS);
    rig.error_ms = 0;
    pass(&rig, 2000);
    assert_true(rig.right && rig.behind_ms == 0);
    tear_down(&rig);
}

/* This node and the n - 1 next ones; whoever comes besides is a candidate. */
static void take_ring(struct rig *rig, uint32_t n)
{
    struct wire_member members[OTHERS_MAX + 1] = {{.id = id_of(0)}};
    struct ring_form_input in = {
        .members = members, .n_members = n, .replicas = n, .cluster_id = {{1}}};
    static const char *const names[] = {"n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"};
    struct wire_ring wire;
    struct arena arena;
    struct ring *ring;

    for (uint32_t i = 0; i < n; i++)
        members[i] = (struct wire_member){.id = id_of(i), .name = slice_str(names[i]), .weight = 1};
    arena_init(&arena, WIRE_ARENA_BUDGET_RING);
    assert_int_equal(ring_form(&in, &arena, &wire), 0);
    assert_int_equal(ring_new(&wire, NULL, NULL, &ring), 0);
    feed(rig, (struct membership_event){.type = MEMBERSHIP_RING, .u.ring = ring});
    ring_unref(ring);
    arena_deinit(&arena);
}

static void candidates_say_nothing_that_counts(void **state)
{
    for (uint32_t n_members = 1; n_members <= 3; n_members++) {
        struct rig rig;

        set_up(&rig, n_members - 1);
        take_ring(&rig, n_members);
        for (uint32_t i = n_members; i <= 8; i++)
            rig.others_error_ms[i] = i % 3 ? -HOUR_MS : HOUR_MS;
        link_all(&rig, 8);
        pass(&rig, 6000);
        assert_int_equal(rig.n_judged, 1);
        assert_true(rig.right && rig.behind_ms == 0);
        tear_down(&rig);
    }
}

static void who_is_alone_is_right_after_a_while(void **state)
{
    struct rig rig;

    set_up(&rig, 2);
    pass(&rig, MEMBERSHIP_CLOCK_ALONE_MS - 2 * STEP_MS);
    assert_int_equal(rig.n_judged, 0);
    pass(&rig, 4 * STEP_MS);
    assert_int_equal(rig.n_judged, 1);
    assert_true(rig.right);
    tear_down(&rig);
}

static void the_only_member_is_right_at_once(void **state)
{
    struct rig rig;

    set_up(&rig, 0);
    assert_int_equal(rig.n_judged, 1);
    assert_true(rig.right);
    rig.error_ms = HOUR_MS;
    pass(&rig, STEP_MS);
    assert_int_equal(rig.n_judged, 2);
    assert_true(rig.right);
    tear_down(&rig);
}

static void who_does_not_say_is_taken_to_agree(void **state)
{
    struct rig rig;

    set_up(&rig, 2);
    rig.others_error_ms[1] = rig.others_error_ms[2] = SILENT;
    link_all(&rig, 2);
    pass(&rig, 1000);
    assert_int_equal(rig.n_judged, 1);
    assert_true(rig.right);
    tear_down(&rig);
}

static void nothing_is_said_where_nobody_asks(void **state)
{
    struct rig rig;

    set_up(&rig, 2);
    membership_free(rig.m);
    rig.watched = false;
    rig.m = membership_new(&(struct membership_config){
        .profile = {.member = {.id = id_of(0)}}, .boot = 1, .now_ms = 5000, .intern = intern});
    assert_non_null(rig.m);
    expect(&rig, 2);
    link_all(&rig, 2);
    pass(&rig, 5000);
    assert_int_equal(rig.n_judged, 0);
    tear_down(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clock_is_judged_by_what_others_say),
        cmocka_unit_test(a_step_ahead_is_judged_anew),
        cmocka_unit_test(a_step_to_the_right_time_is_right),
        cmocka_unit_test(a_clock_that_runs_ahead_slowly_is_found_out),
        cmocka_unit_test(small_steps_that_add_up_are_told),
        cmocka_unit_test(small_steps_of_the_only_member_are_told),
        cmocka_unit_test(small_steps_while_the_others_are_away_are_told),
        cmocka_unit_test(late_answers_feign_nothing),
        cmocka_unit_test(the_majority_says_who_is_off),
        cmocka_unit_test(who_is_behind_learns_by_how_much),
        cmocka_unit_test(candidates_say_nothing_that_counts),
        cmocka_unit_test(who_is_alone_is_right_after_a_while),
        cmocka_unit_test(the_only_member_is_right_at_once),
        cmocka_unit_test(who_does_not_say_is_taken_to_agree),
        cmocka_unit_test(nothing_is_said_where_nobody_asks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
