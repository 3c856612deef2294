/* test_verdict: the verdict at its boundaries, and what operators are told.
 *
 * One ring of 64 partitions on five members, three replicas each: partition p lives on members
 * p, p + 1 and p + 2 modulo 5. So every pair of members shares partitions, and of the three that
 * serve one, two are a quorum. */
#include "server/core/trouble.h"
#include "server/core/verdict.h"

#include "test.h"

#define Q 64u
#define S 3u
#define M 5u

struct fixture {
    struct wire_ring wire;
    struct wire_member members[M];
    uint32_t fence[Q], primary[Q], member[Q * S], state[Q * S], voter, bucket;
    uint64_t incarnation[Q * S];
    struct verdict_member seen[M];
    struct verdict verdict;
    char text[256];
};

static void fixture_init(struct fixture *f)
{
    static const char *const names[M] = {"n1", "n2", "n3", "n4", "n5"};

    *f = (struct fixture){.bucket = 1};
    for (uint32_t i = 0; i < M; i++) {
        f->members[i] = (struct wire_member){.name = slice_str(names[i]),
                                             .client_address = slice_str("127.0.0.1:1"),
                                             .peer_address = slice_str("127.0.0.1:2"),
                                             .weight = 1};
        f->members[i].id.b[0] = (uint8_t)(i + 1);
        f->seen[i].state = MEMBER_ALIVE;
    }
    for (uint32_t p = 0; p < Q; p++) {
        f->fence[p] = 1;
        for (uint32_t s = 0; s < S; s++) {
            f->member[p * S + s] = (p + s) % M;
            f->state[p * S + s] = SLOT_READY;
            f->incarnation[p * S + s] = 1 + p * S + s;
        }
    }
    f->wire = (struct wire_ring){.epoch = 1,
                                 .cluster_id.b = {1},
                                 .n_partitions = Q,
                                 .n_replicas = S,
                                 .n_slots = S,
                                 .next_incarnation = Q * S + 1,
                                 .n_members = M,
                                 .n_voters = 1,
                                 .n_buckets = 1,
                                 .members = f->members,
                                 .voters = &f->voter,
                                 .buckets = &f->bucket,
                                 .fence = f->fence,
                                 .primary = f->primary,
                                 .slot_member = f->member,
                                 .slot_incarnation = f->incarnation,
                                 .slot_state = f->state};
}

static enum wire_verdict judge(struct fixture *f)
{
    struct ring *ring;
    size_t len;

    assert_int_equal(ring_new(&f->wire, NULL, NULL, &ring), 0);
    verdict_of(ring, f->seen, &f->verdict);
    ring_unref(ring);
    len = verdict_text(&f->verdict, f->text, sizeof(f->text));
    assert_int_equal(len, strlen(f->text));
    return f->verdict.state;
}

/* Partitions that have both members among their three. */
static uint32_t shared_by(uint32_t a, uint32_t b)
{
    uint32_t n = 0;

    for (uint32_t p = 0; p < Q; p++)
        n += (a + M - p % M) % M < S && (b + M - p % M) % M < S;
    return n;
}

static void all_up_is_healthy(void **state)
{
    struct fixture f;

    fixture_init(&f);
    assert_int_equal(judge(&f), VERDICT_HEALTHY);
    assert_string_equal(f.text, "5 of 5 nodes up; every key has its 3 replicas");
    assert_int_equal(f.verdict.n_by_live[3], Q);
    assert_int_equal(f.verdict.n_full, Q);
}

static void a_suspicion_changes_nothing(void **state)
{
    struct fixture f;

    fixture_init(&f);
    for (uint32_t i = 0; i < M; i++)
        f.seen[i].state = MEMBER_SUSPECT;
    assert_int_equal(judge(&f), VERDICT_HEALTHY);
}

static void one_away_is_degraded_however_it_went(void **state)
{
    static const enum wire_member_state away[] = {MEMBER_DOWN, MEMBER_STOPPED, MEMBER_UNKNOWN};
    struct fixture f;

    fixture_init(&f);
    for (size_t i = 0; i < ARRAY_LEN(away); i++) {
        f.seen[3].state = away[i];
        assert_int_equal(judge(&f), VERDICT_DEGRADED);
        assert_int_equal(f.verdict.n_up, 4);
        assert_int_equal(f.verdict.n_by_live[2], shared_by(3, 3));
        assert_int_equal(f.verdict.n_by_live[3], Q - shared_by(3, 3));
        assert_int_equal(f.verdict.n_no_quorum, 0);
    }
    assert_string_equal(f.text, "1 of 5 nodes is not up; 39 of 64 partitions have 2 of 3 replicas");
}

static void two_away_take_the_quorum_of_what_they_share(void **state)
{
    struct fixture f;

    fixture_init(&f);
    f.seen[1].state = f.seen[2].state = MEMBER_DOWN;
    assert_int_equal(judge(&f), VERDICT_UNAVAILABLE);
    assert_int_equal(f.verdict.n_no_quorum, shared_by(1, 2));
    assert_int_equal(f.verdict.n_no_write, shared_by(1, 2));
    assert_int_equal(f.verdict.n_by_live[1], shared_by(1, 2));
    assert_string_equal(f.text,
                        "26 of 64 partitions cannot be read or written at quorum; 2 of 5 nodes "
                        "are not up; 26 of 64 partitions have 1 of 3 replicas");
}

static void two_that_share_nothing_leave_every_quorum(void **state)
{
    struct fixture f;

    fixture_init(&f);
    /* 64 partitions on members of their own: the halves {0, 1, 2} and {2, 3, 4} share member 2 */
    for (uint32_t p = 0; p < Q; p++)
        for (uint32_t s = 0; s < S; s++)
            f.member[p * S + s] = p % 2 ? s : s + 2;
    f.seen[0].state = f.seen[4].state = MEMBER_DOWN;
    assert_int_equal(judge(&f), VERDICT_DEGRADED);
    assert_int_equal(f.verdict.n_by_live[2], Q);
    f.seen[2].state = MEMBER_DOWN;
    assert_int_equal(judge(&f), VERDICT_UNAVAILABLE);
    assert_int_equal(f.verdict.n_no_quorum, Q);
}

static void all_away_leave_nothing(void **state)
{
    struct fixture f;

    fixture_init(&f);
    for (uint32_t i = 0; i < M; i++)
        f.seen[i].state = MEMBER_DOWN;
    assert_int_equal(judge(&f), VERDICT_UNAVAILABLE);
    assert_int_equal(f.verdict.n_by_live[0], Q);
    assert_int_equal(f.verdict.n_no_quorum, Q);
}

static void a_full_member_counts_for_reads_alone(void **state)
{
    struct fixture f;

    fixture_init(&f);
    f.seen[1].flags = LOAD_NO_SPACE;
    assert_int_equal(judge(&f), VERDICT_DEGRADED);
    assert_int_equal(f.verdict.n_full, Q);
    assert_int_equal(f.verdict.n_no_write, 0);
    f.seen[2].flags = LOAD_NO_SPACE;
    assert_int_equal(judge(&f), VERDICT_UNAVAILABLE);
    assert_int_equal(f.verdict.n_no_quorum, 0);
    assert_int_equal(f.verdict.n_no_write, shared_by(1, 2));
    assert_string_equal(f.text, "26 of 64 partitions cannot be written at quorum; 5 of 5 nodes "
                                "up; every key has its 3 replicas");
}

static void a_wrong_clock_degrades_and_nothing_more(void **state)
{
    struct fixture f;

    fixture_init(&f);
    for (uint32_t i = 0; i < M; i++)
        f.seen[i].flags = LOAD_CLOCK;
    assert_int_equal(judge(&f), VERDICT_DEGRADED);
    assert_int_equal(f.verdict.n_no_write, 0);
}

static void a_replica_that_is_being_filled_does_not_count(void **state)
{
    struct fixture f;

    fixture_init(&f);
    f.state[7 * S + 1] = SLOT_JOINING;
    assert_int_equal(judge(&f), VERDICT_DEGRADED);
    assert_int_equal(f.verdict.n_joining, 1);
    assert_int_equal(f.verdict.n_by_live[2], 1);
    assert_string_equal(f.text, "5 of 5 nodes up; 1 of 64 partitions has 2 of 3 replicas; 1 "
                                "replica is being filled");
}

static void a_node_alone_has_all_that_it_can_have(void **state)
{
    struct fixture f;

    fixture_init(&f);
    f.wire.n_members = f.wire.n_slots = 1;
    memset(f.member, 0, sizeof(f.member));
    assert_int_equal(judge(&f), VERDICT_HEALTHY);
    assert_string_equal(f.text, "1 of 1 nodes up; every key has its 1 replica");
}

static void a_text_that_has_no_room_is_cut(void **state)
{
    struct fixture f;
    char small[12];

    fixture_init(&f);
    judge(&f);
    assert_int_equal(verdict_text(&f.verdict, small, sizeof(small)), 11);
    assert_string_equal(small, "5 of 5 node");
}

/* ---- what operators are told --------------------------------------------------------------- */

static struct wire_member_status member(const char *name, enum wire_member_state state)
{
    return (struct wire_member_status){
        .member = {.name = slice_str(name), .peer_address = slice_str("10.0.0.14:7401")},
        .state = state,
        .state_ms = 250000};
}

static void assert_text(struct slice got, const char *expected)
{
    assert_int_equal(got.len, strlen(expected));
    assert_memory_equal(got.data, expected, got.len);
}

static int list_of(const struct wire_member_status *members, size_t n, struct arena *arena,
                   struct wire_problem *out)
{
    struct wire_status_result status = {.members = members, .n_members = n};

    return trouble_list(&status, arena, out);
}

static void the_gravest_is_told_first(void **state)
{
    struct wire_member_status members[] = {member("n1", MEMBER_ALIVE), member("n2", MEMBER_STOPPED),
                                           member("n3", MEMBER_ALIVE), member("n4", MEMBER_DOWN),
                                           member("n5", MEMBER_UNKNOWN)};
    struct wire_problem got[LIMIT_PROBLEMS_MAX];
    struct arena arena;

    members[0].load = (struct wire_load){.flags = LOAD_NO_SPACE | LOAD_CLOCK, .disk_percent = 86};
    arena_init(&arena, 64u << 10);
    assert_int_equal(list_of(members, ARRAY_LEN(members), &arena, got), 5);
    assert_int_equal(got[0].kind, PROBLEM_DOWN);
    assert_int_equal(got[0].member, 4);
    assert_text(got[0].text, "n4 is down for 4 min 10 s: 10.0.0.14:7401 does not answer");
    assert_text(got[0].advice, "start quoitd on n4, or mend the network between it and the others");
    assert_int_equal(got[1].kind, PROBLEM_NEVER_CAME);
    assert_text(got[1].text, "n5 was not heard of since this node started, 4 min 10 s ago: "
                             "10.0.0.14:7401 does not answer");
    assert_int_equal(got[2].kind, PROBLEM_STOPPED);
    assert_text(got[2].text, "n2 was stopped 4 min 10 s ago");
    assert_int_equal(got[3].kind, PROBLEM_NO_SPACE);
    assert_int_equal(got[3].member, 1);
    assert_text(got[3].text,
                "n1 is out of space (86 % used): it refuses writes; reads and deletes work");
    assert_int_equal(got[4].kind, PROBLEM_CLOCK);
    arena_deinit(&arena);
}

static void a_lost_disk_is_told_from_a_node_that_is_away(void **state)
{
    struct wire_member_status members[] = {member("n1", MEMBER_DOWN), member("n2", MEMBER_DOWN),
                                           member("n3", MEMBER_ALIVE)};
    struct wire_member_status candidates[] = {member("n4", MEMBER_ALIVE),
                                              member("n2", MEMBER_ALIVE)};
    struct wire_status_result status = {
        .members = members, .n_members = 3, .candidates = candidates, .n_candidates = 2};
    struct wire_problem got[LIMIT_PROBLEMS_MAX];
    struct arena arena;

    candidates[1].member.id = (struct wire_id){{0xab, 0xcd, 0xef}};
    arena_init(&arena, 64u << 10);
    assert_int_equal(trouble_list(&status, &arena, got), 2);
    assert_text(got[0].advice, "start quoitd on n1, or mend the network between it and the others");
    assert_int_equal(got[1].member, 2);
    assert_text(got[1].advice,
                "bring back the data directory of n2: the node of that name that is there now (id "
                "abcdef) has an empty one, so it is another node. It can take the place of the "
                "lost one in a later version");
    arena_deinit(&arena);
}

static void nothing_wrong_is_an_empty_list(void **state)
{
    struct wire_member_status members[] = {member("n1", MEMBER_ALIVE),
                                           member("n2", MEMBER_SUSPECT)};
    struct wire_problem got[LIMIT_PROBLEMS_MAX];
    struct arena arena;

    arena_init(&arena, 64u << 10);
    assert_int_equal(list_of(members, 2, &arena, got), 0);
    arena_deinit(&arena);
}

/* As many as fit are all told; one more, and the last place counts what has no room. */
static void what_has_no_room_is_counted(void **state)
{
    struct wire_member_status *members = calloc(LIMIT_MEMBERS_MAX, sizeof(*members));
    struct wire_problem got[LIMIT_PROBLEMS_MAX];
    struct arena arena;

    for (size_t i = 0; i < LIMIT_MEMBERS_MAX; i++)
        members[i] = member("n", MEMBER_DOWN);
    arena_init(&arena, 64u << 10);
    assert_int_equal(list_of(members, LIMIT_PROBLEMS_MAX, &arena, got), LIMIT_PROBLEMS_MAX);
    assert_int_equal(got[LIMIT_PROBLEMS_MAX - 1].kind, PROBLEM_DOWN);
    assert_int_equal(list_of(members, LIMIT_MEMBERS_MAX, &arena, got), LIMIT_PROBLEMS_MAX);
    assert_int_equal(got[LIMIT_PROBLEMS_MAX - 1].kind, PROBLEM_MORE);
    assert_text(got[LIMIT_PROBLEMS_MAX - 1].text, "and 961 more");
    arena_deinit(&arena);
    arena_init(&arena, 600); /* no room for all texts */
    assert_int_equal(list_of(members, LIMIT_MEMBERS_MAX, &arena, got), -ERR_NO_MEMORY);
    arena_deinit(&arena);
    free(members);
}

static void durations_have_two_figures(void **state)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } cases[] = {{0, "0 ms"},
                 {999, "999 ms"},
                 {1000, "1 s"},
                 {59999, "59 s"},
                 {60000, "1 min 0 s"},
                 {3599999, "59 min 59 s"},
                 {3600000, "1 h 0 min"},
                 {86399999, "23 h 59 min"},
                 {86400000, "1 day 0 h"},
                 {UINT64_MAX, "213503982334 days 14 h"}};
    char got[TROUBLE_DURATION_BYTES];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        trouble_duration(cases[i].ms, got);
        assert_string_equal(got, cases[i].text);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_up_is_healthy),
        cmocka_unit_test(a_suspicion_changes_nothing),
        cmocka_unit_test(one_away_is_degraded_however_it_went),
        cmocka_unit_test(two_away_take_the_quorum_of_what_they_share),
        cmocka_unit_test(two_that_share_nothing_leave_every_quorum),
        cmocka_unit_test(all_away_leave_nothing),
        cmocka_unit_test(a_full_member_counts_for_reads_alone),
        cmocka_unit_test(a_wrong_clock_degrades_and_nothing_more),
        cmocka_unit_test(a_replica_that_is_being_filled_does_not_count),
        cmocka_unit_test(a_node_alone_has_all_that_it_can_have),
        cmocka_unit_test(a_text_that_has_no_room_is_cut),
        cmocka_unit_test(the_gravest_is_told_first),
        cmocka_unit_test(a_lost_disk_is_told_from_a_node_that_is_away),
        cmocka_unit_test(nothing_wrong_is_an_empty_list),
        cmocka_unit_test(what_has_no_room_is_counted),
        cmocka_unit_test(durations_have_two_figures),
    };
    return cmocka_run_group_tests_name("verdict", tests, NULL, NULL);
}
