/* test_plan: what operators ask for, step by step: growing, draining, replacing, removing, weights,
 * zones, and what is refused. The stage carries plans out as a job would, one step after another,
 * and after each looks whether the partition is still as it must be.
 */
#include "server/core/plan.h"
#include "tests/unit/test.h"

#include <stdio.h>

#define MEMBERS 48u
#define SLOTS LIMIT_SLOTS_MAX
#define GB 1000000000ull

struct stage {
    struct wire_member members[MEMBERS];
    struct wire_ring wire; /* its arrays are these */
    uint32_t *slot_member, *slot_state, *fence, *primary, voters[1], buckets[1];
    uint64_t *incarnation, *bytes;
    struct ring *ring;
    struct plan_state states[2 * MEMBERS];
    struct plan_change changes[MEMBERS];
    struct wire_member newcomers[MEMBERS];
    char names[2 * MEMBERS][8], zones[2 * MEMBERS][8];
    uint32_t n_states, n_changes, n_newcomers, n_known;
    struct arena arena;
    struct plan plan;
};

/* ---- the stage --------------------------------------------------------------------------- */

/* A member that the stage has not had yet, up, with an id that ascends with its number. */
static struct wire_member new_member(struct stage *st, uint32_t zone, uint32_t weight)
{
    uint32_t k = st->n_known++;
    struct wire_member m = {
        .client_address = slice_str("c:1"), .peer_address = slice_str("p:1"), .weight = weight};

    assert_in_range(k, 0, 2 * MEMBERS - 1);
    snprintf(st->names[k], sizeof(st->names[k]), "n%u", k % 1000);
    snprintf(st->zones[k], sizeof(st->zones[k]), "z%u", zone % 1000);
    m.name = slice_str(st->names[k]);
    m.zone = slice_str(st->zones[k]);
    m.id.b[0] = (uint8_t)(k + 1);
    st->states[st->n_states++] = (struct plan_state){.id = m.id, .up = true};
    return m;
}

static void publish(struct stage *st)
{
    struct ring *held = st->ring; /* has the strings of members */

    st->wire.members = st->members;
    st->wire.slot_member = st->slot_member;
    st->wire.slot_state = st->slot_state;
    st->wire.slot_incarnation = st->incarnation;
    st->wire.fence = st->fence;
    st->wire.primary = st->primary;
    st->wire.voters = st->voters;
    st->wire.n_voters = 1;
    st->wire.buckets = st->buckets;
    assert_int_equal(ring_new(&st->wire, NULL, NULL, &st->ring), 0);
    memcpy(st->members, ring_wire(st->ring)->members, st->wire.n_members * sizeof(st->members[0]));
    ring_unref(held);
}

static struct stage *stage_new(uint32_t q, uint32_t replicas, uint32_t n, uint32_t n_zones)
{
    struct stage *st = calloc(1, sizeof(*st));
    struct ring_form_input in = {.members = st->members,
                                 .n_members = n,
                                 .replicas = replicas,
                                 .n_partitions = q,
                                 .cluster_id.b = {1}};
    struct wire_ring formed;
    size_t n_flat;

    for (uint32_t i = 0; i < n; i++)
        st->members[i] = new_member(st, i % n_zones, 1);
    arena_init(&st->arena, 64u << 20);
    assert_int_equal(ring_form(&in, &st->arena, &formed), 0);
    n_flat = (size_t)q * formed.n_slots;
    st->slot_member = calloc((size_t)q * SLOTS, sizeof(uint32_t));
    st->slot_state = calloc((size_t)q * SLOTS, sizeof(uint32_t));
    st->incarnation = calloc((size_t)q * SLOTS, sizeof(uint64_t));
    st->fence = calloc(q, sizeof(uint32_t));
    st->primary = calloc(q, sizeof(uint32_t));
    st->bytes = calloc(q, sizeof(uint64_t));
    memcpy(st->slot_member, formed.slot_member, n_flat * sizeof(uint32_t));
    memcpy(st->slot_state, formed.slot_state, n_flat * sizeof(uint32_t));
    memcpy(st->incarnation, formed.slot_incarnation, n_flat * sizeof(uint64_t));
    memcpy(st->fence, formed.fence, q * sizeof(uint32_t));
    memcpy(st->primary, formed.primary, q * sizeof(uint32_t));
    for (uint32_t p = 0; p < q; p++)
        st->bytes[p] = 1000 + p % 7;
    st->buckets[0] = BUCKET_DEFAULT;
    st->wire = formed;
    publish(st);
    return st;
}

static void stage_free(struct stage *st)
{
    ring_unref(st->ring);
    arena_deinit(&st->arena);
    free(st->slot_member);
    free(st->slot_state);
    free(st->incarnation);
    free(st->fence);
    free(st->primary);
    free(st->bytes);
    free(st);
}

static struct plan_state *state_of(struct stage *st, const struct wire_id *id)
{
    for (uint32_t k = 0; k < st->n_states; k++)
        if (wire_id_equal(&st->states[k].id, id))
            return &st->states[k];
    fail();
    return NULL;
}

static void set_down(struct stage *st, uint32_t member)
{
    state_of(st, &st->members[member].id)->up = false;
}

static void change(struct stage *st, enum plan_change_kind kind, uint32_t member)
{
    st->changes[st->n_changes++] = (struct plan_change){.kind = kind, .id = st->members[member].id};
}

static void change_weight(struct stage *st, uint32_t member, uint32_t weight)
{
    change(st, PLAN_CHANGE_WEIGHT, member);
    st->changes[st->n_changes - 1].weight = weight;
}

static struct wire_member *newcomer(struct stage *st, uint32_t zone, uint32_t weight)
{
    struct wire_member *m = &st->newcomers[st->n_newcomers++];

    *m = new_member(st, zone, weight);
    return m;
}

static void add(struct stage *st, uint32_t n, uint32_t zone, uint32_t weight)
{
    for (; n > 0; n--)
        st->changes[st->n_changes++] =
            (struct plan_change){.kind = PLAN_CHANGE_ADD, .member = newcomer(st, zone, weight)};
}

static void replace(struct stage *st, uint32_t member, uint32_t zone, uint32_t weight)
{
    change(st, PLAN_CHANGE_REPLACE, member);
    st->changes[st->n_changes - 1].member = newcomer(st, zone, weight);
}

static const struct plan *make(struct stage *st)
{
    struct plan_input in = {.ring = st->ring,
                            .changes = st->changes,
                            .n_changes = st->n_changes,
                            .states = st->states,
                            .n_states = st->n_states,
                            .partition_bytes = st->bytes};

    arena_reset(&st->arena, 64u << 20);
    assert_int_equal(plan_make(&in, &st->arena, &st->plan), 0);
    st->n_changes = 0;
    return &st->plan;
}

static const struct plan *make_good(struct stage *st)
{
    make(st);
    if (st->plan.n_refusals > 0)
        fail_msg("refused: %s", plan_reason_name(st->plan.refusals[0].reason));
    return &st->plan;
}

/* ---- carrying it out --------------------------------------------------------------------- */

static uint32_t plan_member(const struct stage *st, uint32_t member)
{
    for (uint32_t i = 0; i < st->plan.n_members; i++)
        if (wire_id_equal(&st->plan.members[i].id, &st->members[member].id))
            return i;
    fail();
    return 0;
}

/* The ring's table widens to that of the plan, and its members become the plan's. */
static void begin_job(struct stage *st)
{
    uint32_t n = st->wire.n_slots, wide = st->plan.n_slots;

    assert_in_range(wide, n, SLOTS);
    for (uint32_t p = st->wire.n_partitions; p-- > 0;)
        for (uint32_t s = wide; s-- > 0;) {
            size_t to = (size_t)p * wide + s, from = (size_t)p * n + s;
            bool has = s < n && st->slot_state[from] != SLOT_NONE;

            st->slot_member[to] = has ? plan_member(st, st->slot_member[from]) : 0;
            st->incarnation[to] = has ? st->incarnation[from] : 0;
            st->slot_state[to] = has ? st->slot_state[from] : SLOT_NONE;
        }
    st->wire.n_slots = wide;
    st->wire.n_members = st->plan.n_members;
}

static uint32_t in_zone(const struct stage *st, const uint32_t *row, struct slice zone)
{
    uint32_t n = 0;

    for (uint32_t s = 0; s < st->wire.n_slots; s++)
        n += row[s] != PLAN_NONE && slice_equal(st->plan.members[row[s]].zone, zone);
    return n;
}

static void read_row(const struct stage *st, uint32_t p, uint32_t *row)
{
    for (uint32_t s = 0; s < st->wire.n_slots; s++) {
        size_t at = (size_t)p * st->wire.n_slots + s;

        row[s] = st->slot_state[at] == SLOT_NONE ? PLAN_NONE : st->slot_member[at];
    }
}

/* Between what it was and what it will be. */
static void check_zones(const struct stage *st, const uint32_t *was, const uint32_t *is,
                        const uint32_t *will)
{
    for (uint32_t i = 0; i < st->plan.n_members; i++) {
        struct slice zone = st->plan.members[i].zone;
        uint32_t a = in_zone(st, was, zone), b = in_zone(st, will, zone);

        assert_in_range(in_zone(st, is, zone), a < b ? a : b, a < b ? b : a);
    }
}

static void check_distinct(const struct stage *st, const uint32_t *row)
{
    for (uint32_t s = 0; s < st->wire.n_slots; s++)
        for (uint32_t t = 0; t < s; t++)
            assert_true(row[s] == PLAN_NONE || row[s] != row[t]);
}

static void do_step(struct stage *st, const struct plan_step *step)
{
    size_t at = (size_t)step->partition * st->wire.n_slots + step->slot;

    if (step->role_to != PLAN_NONE) {
        assert_int_equal(st->primary[step->partition], step->slot);
        st->primary[step->partition] = step->role_to;
    }
    if (step->kind == PLAN_STEP_GROW) {
        assert_int_equal(st->slot_state[at], SLOT_NONE);
        assert_int_equal(step->from, PLAN_NONE);
    } else {
        assert_int_equal(st->slot_member[at], step->from);
    }
    assert_true(st->plan.shares[step->source].up);
    assert_true(st->plan.shares[step->to].up);
    if (step->kind == PLAN_STEP_MOVE)
        assert_int_equal(step->source, step->from);
    st->slot_member[at] = step->to;
    st->slot_state[at] = SLOT_READY;
    st->incarnation[at] = st->wire.next_incarnation++;
    st->fence[step->partition] += step->kind != PLAN_STEP_MOVE;
}

/* The first n_steps, each checked; of a whole plan the switches too. Who leaves stays listed. */
static void carry_out(struct stage *st, size_t n_steps)
{
    uint32_t q = st->wire.n_partitions, wide = st->plan.n_slots;
    uint32_t *was = calloc((size_t)q * wide, 4), *will = calloc((size_t)q * wide, 4);
    uint32_t is[SLOTS];
    bool whole = n_steps == st->plan.n_steps;

    begin_job(st);
    for (uint32_t p = 0; p < q; p++)
        read_row(st, p, &was[p * wide]);
    memcpy(will, was, (size_t)q * wide * 4);
    for (size_t k = 0; k < st->plan.n_steps; k++)
        will[st->plan.steps[k].partition * wide + st->plan.steps[k].slot] = st->plan.steps[k].to;
    for (size_t k = 0; k < n_steps; k++) {
        uint32_t p = st->plan.steps[k].partition;

        do_step(st, &st->plan.steps[k]);
        read_row(st, p, is);
        check_distinct(st, is);
        check_zones(st, &was[p * wide], is, &will[p * wide]);
    }
    for (size_t k = 0; whole && k < st->plan.n_switches; k++)
        st->primary[st->plan.switches[k].partition] = st->plan.switches[k].slot;
    memcpy(st->members, st->plan.members, st->plan.n_members * sizeof(st->members[0]));
    st->wire.epoch++;
    publish(st); /* which checks the ring: primaries READY, and so on */
    free(was);
    free(will);
}

static uint32_t count_kind(const struct plan *plan, enum plan_step_kind kind)
{
    uint32_t n = 0;

    for (size_t k = 0; k < plan->n_steps; k++)
        n += plan->steps[k].kind == kind;
    return n;
}

/* The ring is what the plan said it would be. */
static void check_after(struct stage *st)
{
    uint32_t slots[MEMBERS] = {0}, primaries[MEMBERS] = {0};

    for (uint32_t p = 0; p < st->wire.n_partitions; p++)
        for (uint32_t s = 0; s < st->wire.n_slots; s++) {
            size_t at = (size_t)p * st->wire.n_slots + s;

            if (st->slot_state[at] == SLOT_NONE)
                continue;
            slots[st->slot_member[at]]++;
            primaries[st->slot_member[at]] += st->primary[p] == s;
        }
    for (uint32_t i = 0; i < st->plan.n_members; i++) {
        assert_int_equal(slots[i], st->plan.shares[i].slots_after);
        assert_int_equal(primaries[i], st->plan.shares[i].primaries_after);
    }
}

static void check_sums(const struct plan *plan)
{
    uint64_t in = 0, out = 0, bytes_in = 0, bytes_out = 0;

    for (size_t i = 0; i < plan->n_members; i++) {
        const struct plan_share *share = &plan->shares[i];

        in += share->in;
        out += share->out;
        bytes_in += share->bytes_in;
        bytes_out += share->bytes_out;
        assert_true(share->slots_after <= share->slots_before + share->in);
    }
    assert_int_equal(in, plan->n_steps);
    assert_int_equal(out, plan->n_steps);
    assert_int_equal(bytes_in, plan->bytes);
    assert_int_equal(bytes_out, plan->bytes);
    assert_in_range(plan->n_steps, plan->lower_bound, SIZE_MAX);
}

static void finish(struct stage *st)
{
    check_sums(&st->plan);
    carry_out(st, st->plan.n_steps);
    check_after(st);
}

/* ---- growing ----------------------------------------------------------------------------- */

static void one_node_becomes_two_and_three(void **state)
{
    struct stage *st = stage_new(64, 3, 1, 1);
    const struct plan *plan;

    (void)state;
    add(st, 1, 0, 1);
    plan = make_good(st);
    assert_int_equal(plan->n_steps, 64);
    assert_int_equal(count_kind(plan, PLAN_STEP_GROW), 64);
    assert_int_equal(plan->n_slots, 2);
    assert_int_equal(plan->n_switches, 32);
    finish(st);
    add(st, 1, 0, 1);
    plan = make_good(st);
    assert_int_equal(plan->n_steps, 64);
    assert_int_equal(count_kind(plan, PLAN_STEP_GROW), 64);
    finish(st);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(plan->shares[i].slots_after, 64);
        assert_in_range(plan->shares[i].primaries_after, 21, 22);
    }
    stage_free(st);
}

static void grown_by_two_each_partition_gets_its_second_slot_before_any_gets_a_third(void **state)
{
    struct stage *st = stage_new(64, 3, 1, 1);
    const struct plan *plan;

    (void)state;
    add(st, 2, 0, 1);
    plan = make_good(st);
    assert_int_equal(plan->n_steps, 128);
    for (size_t k = 0; k < 128; k++) {
        assert_int_equal(plan->steps[k].kind, PLAN_STEP_GROW);
        assert_int_equal(plan->steps[k].slot, k < 64 ? 1 : 2);
    }
    finish(st);
    stage_free(st);
}

static void three_nodes_become_six(void **state)
{
    struct stage *st = stage_new(1024, 3, 3, 1);
    const struct plan *plan;

    (void)state;
    add(st, 3, 0, 1);
    plan = make_good(st);
    assert_int_equal(plan->n_steps, 1536);
    assert_int_equal(plan->lower_bound, 1536);
    assert_int_equal(count_kind(plan, PLAN_STEP_MOVE), 1536);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(plan->shares[i].slots_before, i < 3 ? 1024 : 0);
        assert_int_equal(plan->shares[i].slots_after, 512);
        assert_int_equal(plan->shares[i].in, i < 3 ? 0 : 512);
        assert_int_equal(plan->shares[i].out, i < 3 ? 512 : 0);
        assert_true(plan->shares[i].joins == (i >= 3));
        assert_in_range(plan->shares[i].primaries_after, 170, 171);
    }
    finish(st);
    make_good(st); /* and now there is nothing to do */
    assert_int_equal(st->plan.n_steps, 0);
    assert_int_equal(st->plan.n_switches, 0);
    stage_free(st);
}

static void new_zones_are_spread_over(void **state)
{
    struct stage *st = stage_new(1024, 3, 6, 1);
    const struct plan *plan;

    (void)state;
    add(st, 2, 1, 1);
    add(st, 1, 2, 1);
    plan = make_good(st);
    assert_int_equal(plan->violations_before, 0);
    assert_int_equal(plan->violations_after, 0);
    assert_int_equal(plan->n_steps, 2048);
    assert_int_equal(plan->zone_cost_member, 8);
    assert_in_range(plan->zone_cost_permille, 2990, 3010);
    finish(st);
    stage_free(st);
}

/* ---- draining, removing, weights --------------------------------------------------------- */

static void a_drained_node_is_emptied_and_stays_a_member(void **state)
{
    struct stage *st = stage_new(256, 3, 5, 1);
    const struct plan *plan;

    (void)state;
    change(st, PLAN_CHANGE_DRAIN, 2);
    plan = make_good(st);
    for (size_t k = 0; k < plan->n_steps; k++) {
        assert_int_equal(plan->steps[k].kind, PLAN_STEP_MOVE);
        assert_int_equal(plan->steps[k].from, 2);
    }
    assert_int_equal(plan->n_steps, plan->shares[2].slots_before);
    assert_int_equal(plan->shares[2].slots_after, 0);
    assert_int_equal(plan->shares[2].primaries_after, 0);
    assert_false(plan->shares[2].leaves);
    assert_int_equal(plan->members[2].weight, 0);
    finish(st);
    stage_free(st);
}

static void a_live_node_that_is_removed_gives_its_slots_itself(void **state)
{
    struct stage *st = stage_new(256, 3, 5, 1);
    const struct plan *plan;

    (void)state;
    change(st, PLAN_CHANGE_REMOVE, 4);
    plan = make_good(st);
    assert_true(plan->shares[4].leaves);
    assert_int_equal(count_kind(plan, PLAN_STEP_MOVE), plan->n_steps);
    finish(st);
    stage_free(st);
}

static void a_dead_node_that_is_removed_is_rebuilt_by_all_others(void **state)
{
    (void)state;
    for (uint32_t n = 4; n <= 12; n++) {
        struct stage *st = stage_new(1024, 3, n, 1);
        const struct plan *plan;
        uint32_t most = 0;

        set_down(st, 1);
        change(st, PLAN_CHANGE_REMOVE, 1);
        plan = make_good(st);
        assert_int_equal(count_kind(plan, PLAN_STEP_REPLACE), plan->n_steps);
        assert_int_equal(plan->n_steps, plan->shares[1].slots_before);
        for (uint32_t i = 0; i < n; i++) {
            if (i == 1)
                continue;
            assert_int_not_equal(plan->shares[i].in, 0);
            assert_int_not_equal(plan->shares[i].out, 0);
            most = plan->shares[i].out > most ? plan->shares[i].out : most;
        }
        assert_int_equal(plan->shares[1].out, 0);
        assert_true(most * (n - 1) * 10 <= plan->n_steps * 11);
        finish(st);
        stage_free(st);
    }
}

static void weights_move_what_they_must(void **state)
{
    struct stage *st = stage_new(256, 3, 8, 1);
    const struct plan *plan;

    (void)state;
    change_weight(st, 0, 4);
    change_weight(st, 5, 2);
    plan = make_good(st);
    assert_int_equal(plan->n_steps, plan->lower_bound);
    assert_in_range(plan->shares[0].slots_after, 256 * 3 * 4 / 12, 256 * 3 * 4 / 12);
    assert_int_equal(plan->shares[5].slots_after, 128);
    finish(st);
    stage_free(st);
}

static void several_changes_are_one_plan(void **state)
{
    struct stage *st = stage_new(256, 3, 9, 3);
    const struct plan *plan;

    (void)state;
    set_down(st, 3);
    change(st, PLAN_CHANGE_REMOVE, 3);
    change(st, PLAN_CHANGE_DRAIN, 7);
    add(st, 1, 0, 1);
    add(st, 2, 1, 2);
    plan = make_good(st);
    assert_int_equal(plan->shares[3].slots_after, 0);
    assert_int_equal(plan->shares[7].slots_after, 0);
    assert_int_equal(plan->violations_after, 0);
    finish(st);
    stage_free(st);
}

/* ---- replacing --------------------------------------------------------------------------- */

static void a_newcomer_gets_the_slots_of_the_dead_and_no_others(void **state)
{
    struct stage *st = stage_new(256, 3, 6, 1);
    const struct plan *plan;

    (void)state;
    set_down(st, 2);
    replace(st, 2, 0, 1);
    plan = make_good(st);
    for (size_t k = 0; k < plan->n_steps; k++) {
        assert_int_equal(plan->steps[k].kind, PLAN_STEP_REPLACE);
        assert_int_equal(plan->steps[k].from, 2);
        assert_int_equal(plan->steps[k].to, 6);
    }
    assert_int_equal(plan->n_steps, plan->shares[2].slots_before);
    assert_int_equal(plan->shares[6].slots_after, plan->shares[2].slots_before);
    assert_int_equal(plan->shares[6].primaries_after, plan->shares[2].primaries_before);
    assert_int_equal(plan->n_switches, plan->shares[2].primaries_before);
    assert_int_equal(plan->left_moves, 0);
    assert_true(plan->shares[2].leaves);
    for (uint32_t i = 0; i < 6; i++)
        if (i != 2)
            assert_int_equal(plan->shares[i].slots_after, plan->shares[i].slots_before);
    finish(st);
    stage_free(st);
}

static void what_a_smaller_newcomer_leaves_unbalanced_is_told(void **state)
{
    struct stage *st = stage_new(256, 3, 6, 1);
    const struct plan *plan;

    (void)state;
    for (uint32_t i = 0; i < 6; i++)
        st->members[i].weight = 2;
    publish(st);
    set_down(st, 2);
    replace(st, 2, 0, 1);
    plan = make_good(st);
    assert_int_equal(plan->shares[6].slots_after, 128);
    assert_in_range(plan->shares[6].slots_without_zones, 69, 70);
    assert_in_range(plan->left_moves, 58, 59);
    finish(st);
    stage_free(st);
}

static void a_newcomer_in_the_wrong_zone_is_refused(void **state)
{
    struct stage *st = stage_new(256, 3, 6, 3);
    const struct plan *plan;

    (void)state;
    set_down(st, 2);
    replace(st, 2, 0, 1);
    plan = make(st);
    assert_int_equal(plan->n_refusals, 1);
    assert_int_equal(plan->refusals[0].reason, PLAN_ZONE_RULE);
    assert_int_equal(plan->refusals[0].figure, 128);
    assert_int_equal(plan->refusals[0].limit, 0);
    assert_int_equal(plan->n_steps, 128);
    stage_free(st);
}

/* The ring has grown before there were zones. */
static void
a_zone_rule_that_is_broken_today_does_not_keep_the_dead_from_being_replaced(void **state)
{
    struct stage *st = stage_new(64, 3, 4, 1);
    const struct plan *plan;

    (void)state;
    st->members[2].zone = slice_str("z1");
    st->members[3].zone = slice_str("z2");
    publish(st);
    set_down(st, 3);
    replace(st, 3, 2, 1);
    plan = make_good(st);
    assert_int_equal(plan->violations_before, 32); /* rows of 0, 1 and one of the others */
    assert_int_equal(plan->violations_after, 32);
    finish(st);
    stage_free(st);
}

static void a_replacement_beside_other_changes_is_balanced_with_them(void **state)
{
    struct stage *st = stage_new(256, 3, 9, 3);
    const struct plan *plan;

    (void)state;
    set_down(st, 2);
    replace(st, 2, 0, 1); /* zone 2 -> zone 0 */
    add(st, 1, 2, 1);
    plan = make_good(st);
    assert_int_equal(plan->shares[2].slots_after, 0);
    assert_int_equal(plan->violations_after, 0);
    assert_int_equal(plan->left_moves, 0);
    finish(st);
    stage_free(st);
}

/* ---- order and roles --------------------------------------------------------------------- */

static void what_lacks_a_replica_comes_first_then_drains_then_the_rest(void **state)
{
    struct stage *st = stage_new(256, 3, 9, 1);
    const struct plan *plan;
    int stage = 0;

    (void)state;
    set_down(st, 0);
    change(st, PLAN_CHANGE_REMOVE, 0);
    change(st, PLAN_CHANGE_DRAIN, 1);
    change_weight(st, 2, 3);
    add(st, 2, 0, 1);
    plan = make_good(st);
    for (size_t k = 0; k < plan->n_steps; k++) {
        const struct plan_step *step = &plan->steps[k];
        int now = step->kind == PLAN_STEP_REPLACE ? 0 : step->from == 1 ? 1 : 2;

        assert_in_range(now, stage, 2);
        stage = now;
    }
    assert_int_equal(stage, 2);
    finish(st);
    stage_free(st);
}

static void partitions_with_fewer_live_replicas_come_first(void **state)
{
    struct stage *st = stage_new(256, 5, 9, 1);
    const struct plan *plan;
    uint32_t lost[256] = {0}, last = 2;

    (void)state;
    set_down(st, 0);
    set_down(st, 1);
    for (size_t k = 0; k < 256 * 5; k++)
        lost[k / 5] += st->slot_member[k] <= 1;
    change(st, PLAN_CHANGE_REMOVE, 0);
    change(st, PLAN_CHANGE_REMOVE, 1);
    plan = make_good(st);
    for (size_t k = 0; k < plan->n_steps; k++) {
        uint32_t p = plan->steps[k].partition;

        assert_in_range(lost[p], 1, last);
        last = lost[p]--;
    }
    assert_int_equal(last, 1);
    finish(st);
    stage_free(st);
}

static void a_role_leaves_a_slot_before_it_changes_and_comes_back_at_the_end(void **state)
{
    struct stage *st = stage_new(64, 3, 4, 1);
    const struct plan *plan;
    uint32_t n = 0;

    (void)state;
    change(st, PLAN_CHANGE_DRAIN, 3);
    plan = make_good(st);
    for (size_t k = 0; k < plan->n_steps; k++) {
        const struct plan_step *step = &plan->steps[k];
        bool primary = st->primary[step->partition] == step->slot;

        assert_true(primary == (step->role_to != PLAN_NONE));
        assert_true(step->role_to != step->slot);
        n += primary;
    }
    assert_int_equal(n, 16);
    finish(st);
    stage_free(st);
}

/* ---- refusals ---------------------------------------------------------------------------- */

static const struct plan_refusal *refusal(const struct stage *st, enum plan_reason reason)
{
    for (size_t k = 0; k < st->plan.n_refusals; k++)
        if (st->plan.refusals[k].reason == reason)
            return &st->plan.refusals[k];
    fail_msg("not refused: %s", plan_reason_name(reason));
    return NULL;
}

static void assert_refused(struct stage *st, enum plan_reason reason, uint64_t figure)
{
    make(st);
    assert_int_equal(st->plan.n_refusals, 1);
    assert_int_equal(st->plan.n_steps, 0);
    assert_int_equal(refusal(st, reason)->figure, figure);
}

static void changes_without_sense_are_refused(void **state)
{
    struct stage *st = stage_new(64, 3, 4, 1);

    (void)state;
    change(st, PLAN_CHANGE_DRAIN, 0);
    change(st, PLAN_CHANGE_DRAIN, 1);
    st->changes[1].id.b[5] = 9;
    assert_refused(st, PLAN_UNKNOWN_MEMBER, 1);
    change(st, PLAN_CHANGE_DRAIN, 1);
    change_weight(st, 1, 5);
    assert_refused(st, PLAN_CHANGED_TWICE, 1);
    change_weight(st, 1, 0);
    assert_refused(st, PLAN_BAD_WEIGHT, 0);
    add(st, 1, 0, 0);
    assert_refused(st, PLAN_BAD_WEIGHT, 0);
    replace(st, 1, 0, 1);
    assert_refused(st, PLAN_STILL_UP, 0);
    add(st, 1, 0, 1);
    st->newcomers[st->n_newcomers - 1].id = st->members[0].id;
    assert_refused(st, PLAN_ALREADY_MEMBER, 0);
    add(st, 1, 0, 1);
    st->newcomers[st->n_newcomers - 1].name = st->members[0].name;
    assert_refused(st, PLAN_NAME_TAKEN, 0);
    add(st, 2, 0, 1);
    st->newcomers[st->n_newcomers - 1].name = st->newcomers[st->n_newcomers - 2].name;
    assert_refused(st, PLAN_NAME_TAKEN, 1);
    add(st, 1, 0, 1);
    st->changes[st->n_changes++] = st->changes[0];
    assert_refused(st, PLAN_CHANGED_TWICE, 1);
    add(st, 1, 0, 1);
    st->newcomers[st->n_newcomers - 1].name = slice_str("");
    assert_refused(st, PLAN_BAD_MEMBER, 0);
    stage_free(st);
}

static void fewer_usable_nodes_than_slots_are_refused(void **state)
{
    struct stage *st = stage_new(64, 3, 3, 1);

    (void)state;
    change(st, PLAN_CHANGE_DRAIN, 0);
    assert_refused(st, PLAN_FEW_NODES, 2);
    assert_int_equal(st->plan.refusals[0].limit, 3);
    for (uint32_t i = 0; i < 3; i++)
        change(st, PLAN_CHANGE_REMOVE, i);
    assert_refused(st, PLAN_FEW_NODES, 0);
    change(st, PLAN_CHANGE_DRAIN, 0);
    add(st, 1, 0, 1);
    make_good(st);
    stage_free(st);
}

static void more_members_than_the_limit_are_refused(void **state)
{
    struct stage *st = stage_new(64, 3, 3, 1);
    static struct wire_member members[LIMIT_MEMBERS_MAX];
    static struct plan_change changes[LIMIT_MEMBERS_MAX];
    static char names[LIMIT_MEMBERS_MAX][16];
    struct plan_input in = {.ring = st->ring,
                            .changes = changes,
                            .n_changes = LIMIT_MEMBERS_MAX - 2,
                            .states = st->states,
                            .n_states = st->n_states};

    (void)state;
    for (uint32_t i = 0; i < LIMIT_MEMBERS_MAX; i++) {
        snprintf(names[i], sizeof(names[i]), "m%u", i);
        members[i] = (struct wire_member){.name = slice_str(names[i]), .weight = 1};
        members[i].id.b[0] = 200;
        members[i].id.b[1] = (uint8_t)(i >> 8);
        members[i].id.b[2] = (uint8_t)i;
        changes[i] = (struct plan_change){.kind = PLAN_CHANGE_ADD, .member = &members[i]};
    }
    arena_reset(&st->arena, 64u << 20);
    assert_int_equal(plan_make(&in, &st->arena, &st->plan), 0);
    assert_int_equal(st->plan.n_refusals, 1);
    assert_int_equal(refusal(st, PLAN_TOO_MANY)->limit, LIMIT_MEMBERS_MAX);
    in.n_changes--;
    assert_int_equal(plan_make(&in, &st->arena, &st->plan), 0);
    /* none of them is up: as many reasons as are told, and how many more there are */
    assert_int_equal(st->plan.n_refusals, PLAN_REFUSALS_MAX);
    assert_int_not_equal(st->plan.n_refusals_more, 0);
    assert_int_equal(st->plan.refusals[0].reason, PLAN_TARGET_DOWN);
    stage_free(st);
}

static void a_ring_in_which_a_slot_joins_is_busy(void **state)
{
    struct stage *st = stage_new(64, 3, 4, 1);

    (void)state;
    st->slot_state[3 * 5 + (st->primary[5] + 1) % 3] = SLOT_JOINING;
    publish(st);
    add(st, 1, 0, 1);
    assert_refused(st, PLAN_BUSY, 1);
    stage_free(st);
}

static void a_full_disk_is_refused(void **state)
{
    struct stage *st = stage_new(64, 3, 4, 1);
    const struct plan *plan;

    (void)state;
    for (uint32_t p = 0; p < 64; p++)
        st->bytes[p] = GB;
    for (uint32_t k = 0; k < 4; k++) {
        st->states[k].disk_bytes = 100 * GB;
        st->states[k].disk_used_bytes = 48 * GB;
    }
    add(st, 1, 0, 1);
    st->states[4].disk_bytes = 50 * GB; /* it will have 38 or 39 */
    plan = make_good(st);
    assert_int_equal(plan->shares[4].disk_peak_bytes, plan->shares[4].in * GB);
    st->changes[st->n_changes++] =
        (struct plan_change){.kind = PLAN_CHANGE_ADD, .member = &st->newcomers[0]};
    st->states[4].disk_bytes = 44 * GB;
    plan = make(st);
    assert_int_equal(plan->n_refusals, 1);
    assert_int_equal(refusal(st, PLAN_DISK)->member, 4);
    assert_in_range(refusal(st, PLAN_DISK)->figure, 851, 900);
    assert_int_equal(refusal(st, PLAN_DISK)->limit, 850);
    assert_int_not_equal(plan->n_steps, 0);
    stage_free(st);
}

static void nodes_that_are_down_are_refused_on_either_side(void **state)
{
    struct stage *st = stage_new(64, 3, 5, 1);

    (void)state;
    add(st, 1, 0, 1);
    st->states[5].up = false;
    make(st);
    assert_int_equal(st->plan.n_refusals, 1);
    assert_int_equal(refusal(st, PLAN_TARGET_DOWN)->member, 5);
    assert_int_equal(refusal(st, PLAN_TARGET_DOWN)->figure, st->plan.n_steps);
    set_down(st, 2);
    change(st, PLAN_CHANGE_DRAIN, 2);
    make(st);
    assert_int_equal(refusal(st, PLAN_SOURCE_DOWN)->member, 2);
    assert_int_equal(refusal(st, PLAN_SOURCE_DOWN)->figure, st->plan.shares[2].slots_before);
    stage_free(st);
}

static void a_partition_without_a_replica_to_spare_is_refused(void **state)
{
    struct stage *st = stage_new(64, 3, 5, 1);
    uint32_t both = 0;

    (void)state;
    for (uint32_t p = 0; p < 64; p++) {
        uint32_t n = 0;

        for (uint32_t s = 0; s < 3; s++)
            n += st->slot_member[p * 3 + s] == 1 || st->slot_member[p * 3 + s] == 3;
        both += n == 2;
    }
    set_down(st, 3);
    change(st, PLAN_CHANGE_DRAIN, 1);
    make(st);
    assert_int_equal(refusal(st, PLAN_NO_SPARE)->member, 3);
    assert_int_equal(refusal(st, PLAN_NO_SPARE)->figure, both);
    stage_free(st);
}

static void a_partition_without_a_quorum_is_refused(void **state)
{
    struct stage *st = stage_new(64, 2, 3, 1);

    (void)state;
    set_down(st, 2);
    replace(st, 2, 0, 1);
    make(st);
    /* one of two copies is not a majority: what the other acknowledged alone cannot be known */
    assert_int_equal(st->plan.n_refusals, 1);
    assert_int_equal(refusal(st, PLAN_NO_QUORUM)->member, 2);
    assert_int_equal(refusal(st, PLAN_NO_QUORUM)->figure, st->plan.n_steps);
    stage_free(st);
}

static void growing_needs_all_slots(void **state)
{
    struct stage *st = stage_new(64, 3, 2, 1);

    (void)state;
    set_down(st, 0);
    add(st, 1, 0, 1);
    make(st);
    assert_int_equal(refusal(st, PLAN_GROW_NEEDS_ALL)->member, 0);
    assert_int_equal(refusal(st, PLAN_GROW_NEEDS_ALL)->figure, 64);
    stage_free(st);
}

/* A replacement comes before the growth of the same partition, and then all are up. */
static void a_partition_grows_once_its_dead_slot_is_replaced(void **state)
{
    struct stage *st = stage_new(64, 4, 3, 1);
    const struct plan *plan;

    (void)state;
    st->wire.n_replicas = 4;
    publish(st);
    set_down(st, 0);
    change(st, PLAN_CHANGE_REMOVE, 0);
    add(st, 2, 0, 1);
    plan = make_good(st);
    assert_int_equal(count_kind(plan, PLAN_STEP_REPLACE), 64);
    assert_int_equal(count_kind(plan, PLAN_STEP_GROW), 64);
    finish(st);
    stage_free(st);
}

/* ---- any plan ---------------------------------------------------------------------------- */

static void change_at_random(struct stage *st, struct test_random *random, uint32_t n_zones)
{
    uint32_t n = 1 + (uint32_t)test_random_below(random, 3), i;
    bool changed[MEMBERS] = {false};

    for (; n > 0; n--) {
        uint32_t zone = (uint32_t)test_random_below(random, n_zones);
        uint32_t weight = 1 + (uint32_t)test_random_below(random, 3);

        i = (uint32_t)test_random_below(random, st->wire.n_members);
        switch (test_random_below(random, 6)) {
        case 0:
            if (!changed[i])
                change(st, PLAN_CHANGE_DRAIN, i);
            break;
        case 1:
            if (!changed[i])
                change_weight(st, i, weight);
            break;
        case 2:
            if (!changed[i] && test_random_below(random, 2))
                set_down(st, i);
            if (!changed[i])
                change(st, PLAN_CHANGE_REMOVE, i);
            break;
        case 3:
            if (changed[i])
                break;
            set_down(st, i);
            replace(st, i, zone, weight);
            break;
        default:
            add(st, 1, zone, weight);
            continue;
        }
        changed[i] = true;
    }
}

/* Whatever is not refused is carried out, with every row looked at after every step. */
static void any_plan_keeps_every_row_legal_at_every_step(void **state)
{
    uint32_t n_lives = test_is_quick() ? 60 : 600, n_done = 0, n_steps = 0;

    (void)state;
    for (uint32_t seed = 1; seed <= n_lives; seed++) {
        struct test_random random = {.s = seed};
        uint32_t n_zones = 1 + (uint32_t)test_random_below(&random, 4);
        uint32_t replicas = 1 + (uint32_t)test_random_below(&random, 5);
        uint32_t n = 1 + (uint32_t)test_random_below(&random, 9);
        struct stage *st = stage_new(64, replicas, n, n_zones);

        for (int k = 0; k < 4 && st->wire.n_members < 24; k++) {
            change_at_random(st, &random, n_zones);
            make(st);
            for (uint32_t s = 0; s < st->n_states; s++)
                st->states[s].up = true; /* for the next plan; this one has been told */
            if (st->plan.n_refusals > 0)
                continue;
            n_done++;
            n_steps += (uint32_t)st->plan.n_steps;
            finish(st);
        }
        stage_free(st);
    }
    assert_in_range(n_done, n_lives, UINT32_MAX);
    assert_in_range(n_steps, n_done * 30, UINT32_MAX);
}

static void a_plan_made_half_way_through_another_needs_no_more(void **state)
{
    struct test_random random = {.s = 11};

    (void)state;
    for (int k = 0; k < 20; k++) {
        struct stage *st = stage_new(256, 3, 6 + (uint32_t)k % 4, 1 + (uint32_t)k % 3);
        size_t total, half;

        add(st, 2, 0, 1);
        change(st, PLAN_CHANGE_DRAIN, 1);
        total = make_good(st)->n_steps;
        half = total / 4 + test_random_below(&random, total / 2);
        check_sums(&st->plan);
        carry_out(st, half);
        make_good(st); /* the same wish: weights are as they will be */
        assert_in_range((half + st->plan.n_steps) * 100, total * 100, total * 101);
        finish(st);
        stage_free(st);
    }
}

static void a_small_arena_is_an_error_and_leaves_the_result_alone(void **state)
{
    struct stage *st = stage_new(64, 3, 4, 1);
    struct plan_change add_one = {.kind = PLAN_CHANGE_ADD, .member = newcomer(st, 0, 1)};
    struct plan_input in = {.ring = st->ring,
                            .changes = &add_one,
                            .n_changes = 1,
                            .states = st->states,
                            .n_states = st->n_states};
    struct plan out = {0};
    int r = -ERR_NO_MEMORY;

    (void)state;
    for (size_t budget = 0; r != 0; budget += 64) {
        arena_reset(&st->arena, budget);
        r = plan_make(&in, &st->arena, &out);
        if (r < 0) {
            assert_int_equal(r, -ERR_NO_MEMORY);
            assert_int_equal(out.n_members, 0);
        }
        assert_in_range(budget, 0, 1u << 20);
    }
    stage_free(st);
}

static void every_reason_has_a_name(void **state)
{
    (void)state;
    for (int r = PLAN_UNKNOWN_MEMBER; r <= PLAN_GROW_NEEDS_ALL; r++)
        assert_string_not_equal(plan_reason_name((enum plan_reason)r), "UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_node_becomes_two_and_three),
        cmocka_unit_test(grown_by_two_each_partition_gets_its_second_slot_before_any_gets_a_third),
        cmocka_unit_test(three_nodes_become_six),
        cmocka_unit_test(new_zones_are_spread_over),
        cmocka_unit_test(a_drained_node_is_emptied_and_stays_a_member),
        cmocka_unit_test(a_live_node_that_is_removed_gives_its_slots_itself),
        cmocka_unit_test(a_dead_node_that_is_removed_is_rebuilt_by_all_others),
        cmocka_unit_test(weights_move_what_they_must),
        cmocka_unit_test(several_changes_are_one_plan),
        cmocka_unit_test(a_newcomer_gets_the_slots_of_the_dead_and_no_others),
        cmocka_unit_test(what_a_smaller_newcomer_leaves_unbalanced_is_told),
        cmocka_unit_test(a_newcomer_in_the_wrong_zone_is_refused),
        cmocka_unit_test(
            a_zone_rule_that_is_broken_today_does_not_keep_the_dead_from_being_replaced),
        cmocka_unit_test(a_replacement_beside_other_changes_is_balanced_with_them),
        cmocka_unit_test(what_lacks_a_replica_comes_first_then_drains_then_the_rest),
        cmocka_unit_test(partitions_with_fewer_live_replicas_come_first),
        cmocka_unit_test(a_role_leaves_a_slot_before_it_changes_and_comes_back_at_the_end),
        cmocka_unit_test(changes_without_sense_are_refused),
        cmocka_unit_test(fewer_usable_nodes_than_slots_are_refused),
        cmocka_unit_test(more_members_than_the_limit_are_refused),
        cmocka_unit_test(a_ring_in_which_a_slot_joins_is_busy),
        cmocka_unit_test(a_full_disk_is_refused),
        cmocka_unit_test(nodes_that_are_down_are_refused_on_either_side),
        cmocka_unit_test(a_partition_without_a_replica_to_spare_is_refused),
        cmocka_unit_test(a_partition_without_a_quorum_is_refused),
        cmocka_unit_test(growing_needs_all_slots),
        cmocka_unit_test(a_partition_grows_once_its_dead_slot_is_replaced),
        cmocka_unit_test(any_plan_keeps_every_row_legal_at_every_step),
        cmocka_unit_test(a_plan_made_half_way_through_another_needs_no_more),
        cmocka_unit_test(a_small_arena_is_an_error_and_leaves_the_result_alone),
        cmocka_unit_test(every_reason_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
