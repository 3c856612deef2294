/* Stories of server/core/membership: one node, and what others say to it and do not say. Clusters
 * of them: tests/sim/gossip.c. */
#include "test.h"

#include "server/core/membership.h"

#define SENT_MAX 512u
#define SELF 0u
#define BOOT 5u

struct sent {
    uint32_t to;
    struct wire_gossip gossip;
    struct wire_rumour rumours[MEMBERSHIP_RUMOURS];
};

/* This node is node 0; others are told by their handle, which is also in their id. */
struct rig {
    struct membership *m;
    uint64_t now_ms;
    struct sent sent[SENT_MAX]; /* since the last time they were cleared */
    uint32_t n_sent, n_changed;
    uint64_t outdated_boot;
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

static void collect(struct rig *rig, const struct membership_effects *fx)
{
    for (uint32_t i = 0; i < fx->n; i++) {
        const struct membership_effect *e = &fx->list[i];

        if (e->type == MEMBERSHIP_CHANGED) {
            rig->n_changed++;
        } else if (e->type == MEMBERSHIP_OUTDATED) {
            rig->outdated_boot = e->boot;
        } else if (e->type == MEMBERSHIP_SEND) {
            struct sent *s = &rig->sent[rig->n_sent++];

            assert_true(rig->n_sent < SENT_MAX);
            *s = (struct sent){.to = e->node, .gossip = e->gossip};
            for (size_t k = 0; k < e->gossip.n_rumours && k < MEMBERSHIP_RUMOURS; k++)
                s->rumours[k] = e->gossip.rumours[k];
        }
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

static void link_up(struct rig *rig, uint32_t node, uint64_t boot)
{
    feed(rig, (struct membership_event){.type = MEMBERSHIP_LINK_UP,
                                        .u.link = {node, id_of(node), boot}});
}

static void say(struct rig *rig, uint32_t from, struct wire_gossip gossip)
{
    feed(rig, (struct membership_event){.type = MEMBERSHIP_MESSAGE,
                                        .u.message = {.node = from, .gossip = &gossip}});
}

static void tell(struct rig *rig, uint32_t from, struct wire_rumour rumour)
{
    say(rig, from,
        (struct wire_gossip){.kind = GOSSIP_RUMOURS, .rumours = &rumour, .n_rumours = 1});
}

static struct wire_rumour rumour(uint32_t about, uint64_t boot, uint32_t refutation,
                                 enum wire_member_state state)
{
    return (struct wire_rumour){
        .id = id_of(about), .boot = boot, .refutation = refutation, .state = state};
}

/* A node that knows n others, all of them alive. */
static void set_up(struct rig *rig, uint32_t n)
{
    struct wire_member members[16];
    struct membership_config config = {
        .profile = {.member = {.id = id_of(SELF), .name = slice_str("self")},
                    .software = slice_str("quoitd")},
        .boot = BOOT,
        .seed = 1,
        .now_ms = 1000,
        .intern = intern};

    memset(rig, 0, sizeof(*rig));
    rig->now_ms = config.now_ms;
    rig->m = membership_new(&config);
    assert_non_null(rig->m);
    for (uint32_t i = 0; i < n; i++)
        members[i] = (struct wire_member){.id = id_of(i + 1)};
    feed(rig, (struct membership_event){.type = MEMBERSHIP_EXPECT,
                                        .u.expect = {.members = members, .n = n}});
    for (uint32_t i = 1; i <= n; i++)
        link_up(rig, i, 1);
}

static void tear_down(struct rig *rig)
{
    membership_free(rig->m);
}

static enum wire_member_state state_of(const struct rig *rig, uint32_t node)
{
    struct membership_view view;

    return membership_view(rig->m, node, &view) ? view.state : MEMBER_UNKNOWN;
}

/* The first since they were cleared; to NULL if none. */
static const struct sent *find(const struct rig *rig, uint32_t to, enum wire_gossip_kind kind)
{
    for (uint32_t i = 0; i < rig->n_sent; i++)
        if (rig->sent[i].to == to && rig->sent[i].gossip.kind == kind)
            return &rig->sent[i];
    return NULL;
}

static const struct wire_rumour *rumour_in(const struct sent *s, uint32_t about)
{
    struct wire_id id = id_of(about);

    for (size_t i = 0; s && i < s->gossip.n_rumours; i++)
        if (wire_id_equal(&s->rumours[i].id, &id))
            return &s->rumours[i];
    return NULL;
}

/* Pings are answered by all but `silent`; its own and those on its behalf are not. */
static void answer(struct rig *rig, uint32_t silent)
{
    uint32_t n = rig->n_sent;

    for (uint32_t i = 0; i < n; i++)
        if (rig->sent[i].gossip.kind == GOSSIP_PING && rig->sent[i].to != silent)
            say(rig, rig->sent[i].to,
                (struct wire_gossip){.kind = GOSSIP_ACK, .number = rig->sent[i].gossip.number});
        else if (rig->sent[i].gossip.kind == GOSSIP_PING_REQUEST && rig->sent[i].to != silent)
            say(rig, rig->sent[i].to,
                (struct wire_gossip){.kind = GOSSIP_NACK, .number = rig->sent[i].gossip.number});
}

static void tick(struct rig *rig)
{
    feed(rig, (struct membership_event){.type = MEMBERSHIP_TICK});
}

/* Goes on in steps of 10 ms. */
static void run(struct rig *rig, uint64_t ms, uint32_t silent)
{
    for (uint64_t end_ms = rig->now_ms + ms; rig->now_ms < end_ms;) {
        rig->now_ms += 10;
        rig->n_sent = 0;
        tick(rig);
        answer(rig, silent);
    }
}

static bool run_until(struct rig *rig, uint64_t ms, uint32_t silent, enum wire_member_state state)
{
    for (uint64_t end_ms = rig->now_ms + ms; rig->now_ms < end_ms;) {
        run(rig, 10, silent);
        if (state_of(rig, silent) == state)
            return true;
    }
    return false;
}

#define NOBODY 99u

/* ---- probes -------------------------------------------------------------------------------- */

static void members_that_answer_stay_alive(void **state)
{
    struct rig rig;
    struct membership_stats stats;

    set_up(&rig, 5);
    run(&rig, 60000, NOBODY);
    for (uint32_t i = 1; i <= 5; i++)
        assert_int_equal(state_of(&rig, i), MEMBER_ALIVE);
    membership_stats(rig.m, &stats);
    assert_int_equal(stats.n_failed_probes, 0);
    assert_in_range(stats.n_probes, 60000 / MEMBERSHIP_PROBE_MS - 2, 60000 / MEMBERSHIP_PROBE_MS);
    tear_down(&rig);
}

static void a_silent_member_is_asked_for_suspected_and_taken_for_dead(void **state)
{
    struct rig rig;
    const struct sent *told;
    uint64_t began_ms;

    set_up(&rig, 5);
    run(&rig, 5000, NOBODY);
    do { /* until it is pinged */
        rig.now_ms += 10;
        rig.n_sent = 0;
        tick(&rig);
        answer(&rig, 3);
    } while (!find(&rig, 3, GOSSIP_PING));
    began_ms = rig.now_ms;
    while (!find(&rig, 1, GOSSIP_PING_REQUEST) && !find(&rig, 2, GOSSIP_PING_REQUEST))
        run(&rig, 10, 3);
    assert_in_range(rig.now_ms - began_ms, MEMBERSHIP_PING_MS, MEMBERSHIP_PING_MS + 10);
    assert_non_null(find(&rig, 3, GOSSIP_PING)); /* once more, for it may have been lost */
    assert_true(run_until(&rig, 1000, 3, MEMBER_SUSPECT));
    assert_in_range(rig.now_ms - began_ms, MEMBERSHIP_PROBE_MS, MEMBERSHIP_PROBE_MS + 20);
    while (!find(&rig, 3, GOSSIP_PING) && !find(&rig, 3, GOSSIP_RUMOURS))
        run(&rig, 10, 3);
    told = find(&rig, 3, GOSSIP_PING) ? find(&rig, 3, GOSSIP_PING) : find(&rig, 3, GOSSIP_RUMOURS);
    assert_non_null(rumour_in(told, 3)); /* it hears what is said of it, first of all */
    assert_ptr_equal(rumour_in(told, 3), &told->rumours[0]);
    assert_int_equal(told->rumours[0].state, MEMBER_SUSPECT);
    assert_true(run_until(&rig, 10000, 3, MEMBER_DOWN));
    for (uint32_t i = 1; i <= 5; i++)
        assert_int_equal(state_of(&rig, i), i == 3 ? MEMBER_DOWN : MEMBER_ALIVE);
    tear_down(&rig);
}

static void an_answer_through_another_is_an_answer(void **state)
{
    struct rig rig;
    const struct sent *request = NULL;

    set_up(&rig, 2);
    do {
        rig.now_ms += 10;
        rig.n_sent = 0;
        tick(&rig);
        request = find(&rig, 2, GOSSIP_PING_REQUEST);
        if (!request)
            answer(&rig, 1);
    } while (!request);
    assert_true(request->gossip.target.b[1] == 1);
    say(&rig, 2, (struct wire_gossip){.kind = GOSSIP_ACK, .number = request->gossip.number});
    run(&rig, MEMBERSHIP_PROBE_MS - 20, NOBODY);
    assert_int_equal(state_of(&rig, 1), MEMBER_ALIVE);
    tear_down(&rig);
}

static void others_are_done_the_favour(void **state)
{
    struct wire_gossip request = {.kind = GOSSIP_PING_REQUEST, .number = 4711, .target = id_of(2)};
    struct rig rig;
    uint64_t number;

    set_up(&rig, 2);
    rig.n_sent = 0;
    say(&rig, 1, request);
    assert_non_null(find(&rig, 2, GOSSIP_PING));
    number = find(&rig, 2, GOSSIP_PING)->gossip.number;
    rig.n_sent = 0;
    say(&rig, 2, (struct wire_gossip){.kind = GOSSIP_ACK, .number = number});
    assert_non_null(find(&rig, 1, GOSSIP_ACK));
    assert_int_equal(find(&rig, 1, GOSSIP_ACK)->gossip.number, 4711);
    say(&rig, 1, request);
    rig.n_sent = 0;
    rig.now_ms += MEMBERSHIP_PROBE_MS - MEMBERSHIP_PING_MS - 1; /* it does not answer */
    tick(&rig);
    assert_non_null(find(&rig, 1, GOSSIP_NACK));
    assert_int_equal(find(&rig, 1, GOSSIP_NACK)->gossip.number, 4711);
    tear_down(&rig);
}

static void a_broken_link_is_looked_at_at_once(void **state)
{
    struct rig rig;

    set_up(&rig, 3);
    rig.n_sent = 0;
    feed(&rig, (struct membership_event){.type = MEMBERSHIP_LINK_DOWN, .u.link.node = 2});
    assert_non_null(find(&rig, 2, GOSSIP_PING));
    tear_down(&rig);
}

static void who_stood_still_does_not_judge(void **state)
{
    struct rig rig;

    set_up(&rig, 3);
    do {
        rig.now_ms += 10;
        rig.n_sent = 0;
        tick(&rig);
        answer(&rig, 2);
    } while (!find(&rig, 2, GOSSIP_PING));
    rig.now_ms += 30000; /* the answers are in the sockets */
    tick(&rig);
    tick(&rig);
    for (uint32_t i = 1; i <= 3; i++)
        assert_int_equal(state_of(&rig, i), MEMBER_ALIVE);
    tear_down(&rig);
}

static void who_hears_nobody_gets_patient(void **state)
{
    struct membership_stats stats;
    struct rig rig;

    set_up(&rig, 4);
    for (int i = 0; i < 100; i++) { /* nobody answers, helpers neither */
        rig.now_ms += 10;
        rig.n_sent = 0;
        tick(&rig);
    }
    membership_stats(rig.m, &stats);
    assert_true(stats.health >= 3);
    run(&rig, 60000, NOBODY);
    membership_stats(rig.m, &stats);
    assert_int_equal(stats.health, 0);
    tear_down(&rig);
}

/* ---- rumours ------------------------------------------------------------------------------- */

static void only_the_node_itself_takes_a_suspicion_back(void **state)
{
    struct rig rig;
    struct wire_rumour suspect = rumour(2, 1, 0, MEMBER_SUSPECT);

    set_up(&rig, 3);
    suspect.by = id_of(1);
    tell(&rig, 1, suspect);
    assert_int_equal(state_of(&rig, 2), MEMBER_SUSPECT);
    tell(&rig, 3, rumour(2, 1, 0, MEMBER_ALIVE)); /* what 3 has believed all the time */
    assert_int_equal(state_of(&rig, 2), MEMBER_SUSPECT);
    tell(&rig, 3, rumour(2, 1, 1, MEMBER_ALIVE));
    assert_int_equal(state_of(&rig, 2), MEMBER_ALIVE);
    tell(&rig, 1, suspect); /* late */
    assert_int_equal(state_of(&rig, 2), MEMBER_ALIVE);
    tear_down(&rig);
}

static uint64_t time_to_death(uint32_t n_others_that_suspect)
{
    struct rig rig;
    uint64_t began_ms;

    set_up(&rig, 6);
    for (uint32_t i = 0; i <= n_others_that_suspect; i++) {
        struct wire_rumour suspect = rumour(6, 1, 0, MEMBER_SUSPECT);

        suspect.by = id_of(i + 1);
        tell(&rig, 1, suspect);
        tell(&rig, 2, suspect); /* told twice is not meant twice */
    }
    began_ms = rig.now_ms;
    while (state_of(&rig, 6) != MEMBER_DOWN && rig.now_ms < began_ms + 60000)
        run(&rig, 10, NOBODY);
    tear_down(&rig);
    return rig.now_ms - began_ms;
}

static void the_more_suspect_the_sooner(void **state)
{
    uint64_t alone = time_to_death(0), two = time_to_death(1), three = time_to_death(2);

    assert_true(alone > two && two > three);
    assert_in_range(alone / three, MEMBERSHIP_SUSPECT_ALONE - 1, MEMBERSHIP_SUSPECT_ALONE);
    assert_in_range(time_to_death(4), three, three);
}

static void what_is_said_of_us_is_refuted(void **state)
{
    const struct wire_rumour *own;
    struct membership_stats stats;
    struct rig rig;

    set_up(&rig, 3);
    run(&rig, 3000, NOBODY);
    tell(&rig, 1, rumour(SELF, BOOT, 0, MEMBER_SUSPECT));
    rig.n_sent = 0;
    say(&rig, 1, (struct wire_gossip){.kind = GOSSIP_PING, .number = 1});
    own = rumour_in(find(&rig, 1, GOSSIP_ACK), SELF);
    assert_non_null(own);
    assert_int_equal(own->state, MEMBER_ALIVE);
    assert_int_equal(own->refutation, 1);
    tell(&rig, 1, rumour(SELF, BOOT, 7, MEMBER_DOWN));
    rig.n_sent = 0;
    say(&rig, 1, (struct wire_gossip){.kind = GOSSIP_PING, .number = 2});
    own = rumour_in(find(&rig, 1, GOSSIP_ACK), SELF);
    assert_int_equal(own->refutation, 8);
    membership_stats(rig.m, &stats);
    assert_int_equal(stats.n_refuted, 2);
    assert_int_equal(rig.outdated_boot, 0);
    tear_down(&rig);
}

static void a_higher_boot_of_ours_ends_us(void **state)
{
    struct wire_rumour twice[2] = {rumour(SELF, BOOT + 1, 0, MEMBER_ALIVE),
                                   rumour(SELF, BOOT + 1, 1, MEMBER_DOWN)};
    struct rig rig;

    set_up(&rig, 3);
    say(&rig, 1, (struct wire_gossip){.kind = GOSSIP_RUMOURS, .rumours = twice, .n_rumours = 2});
    assert_int_equal(rig.outdated_boot, BOOT + 1);
    tear_down(&rig);
}

static void a_restart_is_a_new_life(void **state)
{
    struct wire_profile profile = {.number = 4,
                                   .member = {.id = id_of(2), .name = slice_str("two")}};
    struct wire_rumour again = rumour(2, 2, 0, MEMBER_ALIVE);
    struct membership_view view;
    struct rig rig;

    set_up(&rig, 3);
    again.boot = 1;
    again.profile = &profile;
    tell(&rig, 1, again);
    tell(&rig, 1, rumour(2, 1, 9, MEMBER_DOWN));
    assert_int_equal(state_of(&rig, 2), MEMBER_DOWN);
    rig.n_changed = 0;
    again.boot = 2;
    profile.number = 1; /* numbers begin again */
    profile.member.name = slice_str("zwei");
    tell(&rig, 1, again);
    assert_int_equal(state_of(&rig, 2), MEMBER_ALIVE);
    assert_true(membership_view(rig.m, 2, &view));
    assert_int_equal(view.boot, 2);
    assert_true(slice_equal(view.profile->member.name, slice_str("zwei")));
    assert_int_equal(rig.n_changed, 1);
    tear_down(&rig);
}

/* As often as it takes to reach everybody, and no oftener. */
static void news_are_told_some_times_and_then_no_more(void **state)
{
    uint32_t n_told = 0;
    struct rig rig;

    set_up(&rig, 5);
    run(&rig, 10000, NOBODY);
    rig.n_sent = 0;
    tell(&rig, 1, rumour(2, 1, 1, MEMBER_ALIVE));
    for (int i = 0; i < 500; i++) {
        for (uint32_t k = 0; k < rig.n_sent; k++)
            n_told += rumour_in(&rig.sent[k], 2) != NULL;
        run(&rig, 10, NOBODY);
    }
    assert_int_equal(n_told, MEMBERSHIP_SENDS);
    tear_down(&rig);
}

static void tables_that_differ_are_exchanged(void **state)
{
    struct rig rig;
    uint64_t digest;

    set_up(&rig, 3);
    rig.n_sent = 0;
    say(&rig, 1, (struct wire_gossip){.kind = GOSSIP_SYNC, .digest = 1});
    assert_int_equal(find(&rig, 1, GOSSIP_SYNC_REPLY)->gossip.n_rumours, 4); /* itself as well */
    digest = find(&rig, 1, GOSSIP_SYNC_REPLY)->gossip.digest;
    run(&rig, 5000, NOBODY); /* the news are told */
    rig.n_sent = 0;
    say(&rig, 1, (struct wire_gossip){.kind = GOSSIP_SYNC, .digest = digest});
    assert_int_equal(find(&rig, 1, GOSSIP_SYNC_REPLY)->gossip.n_rumours, 0);
    rig.n_sent = 0;
    say(&rig, 1, (struct wire_gossip){.kind = GOSSIP_SYNC_REPLY, .digest = digest});
    assert_null(find(&rig, 1, GOSSIP_RUMOURS));
    say(&rig, 1, (struct wire_gossip){.kind = GOSSIP_SYNC_REPLY, .digest = digest + 1});
    assert_int_equal(find(&rig, 1, GOSSIP_RUMOURS)->gossip.n_rumours, 4);
    tear_down(&rig);
}

static void who_stops_says_so(void **state)
{
    struct rig rig;

    set_up(&rig, 3);
    tell(&rig, 2, rumour(2, 1, 0, MEMBER_STOPPED));
    assert_int_equal(state_of(&rig, 2), MEMBER_STOPPED);
    for (int i = 0; i < 300; i++) { /* nobody asks it any more */
        run(&rig, 10, NOBODY);
        assert_null(find(&rig, 2, GOSSIP_PING));
    }
    rig.n_sent = 0;
    feed(&rig, (struct membership_event){.type = MEMBERSHIP_STOP});
    for (uint32_t node = 1; node <= 3; node += 2)
        assert_int_equal(rumour_in(find(&rig, node, GOSSIP_RUMOURS), SELF)->state, MEMBER_STOPPED);
    assert_true(membership_deadline_ms(rig.m) == UINT64_MAX);
    tear_down(&rig);
}

/* Nobody thinks less of itself because another has left. */
static void a_goodbye_is_no_failed_probe(void **state)
{
    struct membership_stats stats;
    struct rig rig;

    set_up(&rig, 1);
    do {
        rig.now_ms += 10;
        rig.n_sent = 0;
        tick(&rig);
    } while (!find(&rig, 1, GOSSIP_PING));
    tell(&rig, 1, rumour(1, 1, 0, MEMBER_STOPPED));
    run(&rig, 5000, 1);
    membership_stats(rig.m, &stats);
    assert_int_equal(stats.n_failed_probes, 0);
    assert_int_equal(stats.health, 0);
    assert_int_equal(state_of(&rig, 1), MEMBER_STOPPED);
    tear_down(&rig);
}

/* The end of a partition: the other side refutes what it hears of itself. */
static void the_dead_are_asked_now_and_then(void **state)
{
    const struct sent *ping = NULL;
    struct rig rig;

    set_up(&rig, 3);
    tell(&rig, 1, rumour(2, 1, 0, MEMBER_DOWN));
    for (int i = 0; i < 3 * (int)MEMBERSHIP_REVIVE_MS / 10 && !ping; i++) {
        run(&rig, 10, NOBODY);
        ping = find(&rig, 2, GOSSIP_PING);
    }
    assert_non_null(ping);
    assert_int_equal(rumour_in(ping, 2)->state, MEMBER_DOWN);
    tell(&rig, 2, rumour(2, 1, 1, MEMBER_ALIVE));
    assert_int_equal(state_of(&rig, 2), MEMBER_ALIVE);
    tear_down(&rig);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_that_answer_stay_alive),
        cmocka_unit_test(a_silent_member_is_asked_for_suspected_and_taken_for_dead),
        cmocka_unit_test(an_answer_through_another_is_an_answer),
        cmocka_unit_test(others_are_done_the_favour),
        cmocka_unit_test(a_broken_link_is_looked_at_at_once),
        cmocka_unit_test(who_stood_still_does_not_judge),
        cmocka_unit_test(who_hears_nobody_gets_patient),
        cmocka_unit_test(only_the_node_itself_takes_a_suspicion_back),
        cmocka_unit_test(the_more_suspect_the_sooner),
        cmocka_unit_test(what_is_said_of_us_is_refuted),
        cmocka_unit_test(a_higher_boot_of_ours_ends_us),
        cmocka_unit_test(a_restart_is_a_new_life),
        cmocka_unit_test(news_are_told_some_times_and_then_no_more),
        cmocka_unit_test(tables_that_differ_are_exchanged),
        cmocka_unit_test(who_stops_says_so),
        cmocka_unit_test(a_goodbye_is_no_failed_probe),
        cmocka_unit_test(the_dead_are_asked_now_and_then),
    };

    return cmocka_run_group_tests_name("membership", tests, NULL, NULL);
}
