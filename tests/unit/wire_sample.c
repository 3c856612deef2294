/* wire_sample: see the header. A sample is written out by hand, so that a field forgotten by pack
 * or unpack shows as a difference.
 */
#include "tests/unit/wire_sample.h"

#include <assert.h>
#include <stdlib.h>

static const struct wire_id id_a = {"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"};
static const struct wire_id id_b = {"0123456789abcdef"};

#define SLICE(text) ((struct slice){(const uint8_t *)(text), sizeof(text) - 1})

static struct key key_of(uint32_t bucket, struct slice partition, struct slice sort)
{
    return (struct key){.bucket = bucket, .partition = partition, .sort = sort};
}

static struct state state_of(uint64_t hlc, uint64_t actor, struct slice value)
{
    return (struct state){.kind = STATE_LWW, .version = {hlc, actor}, .value = value};
}

static struct state tombstone_of(uint64_t hlc, uint64_t actor)
{
    return (struct state){.kind = STATE_LWW, .deleted = true, .version = {hlc, actor}};
}

void sample_requests(struct wire_request out[SAMPLE_REQUESTS])
{
    struct wire_request base = {
        .id = 0xfedcba9876543210u, .deadline_ms = 60000, .ring_epoch = 77, .hlc = UINT64_MAX};

    for (size_t i = 0; i < SAMPLE_REQUESTS; i++)
        out[i] = base;
    out[0].op = OP_HELLO;
    out[0].u.hello = (struct wire_hello_request){1, SLICE("python 3.11"), 3};
    out[1].op = OP_PING;
    out[2].op = OP_GET;
    out[2].level = LEVEL_ONE;
    out[2].key = key_of(1, SLICE("k\0ey"), SLICE("sort\xff"));
    out[3].op = OP_PUT;
    out[3].level = LEVEL_ALL;
    out[3].key = key_of(UINT32_MAX, SLICE("\0"), SLICE(""));
    out[3].value = SLICE("value\0with a NUL");
    out[4].op = OP_PUT;
    out[4].key = key_of(1, SLICE("empty value"), SLICE(""));
    out[5].op = OP_DELETE;
    out[5].level = LEVEL_QUORUM;
    out[5].key = key_of(2, SLICE("gone"), SLICE("s"));
    out[6].op = OP_SCAN;
    out[6].level = LEVEL_ONE;
    out[6].u.scan = (struct wire_scan_request){1023, 1024, SLICE("\0\0\xff cursor"), 4096};
    out[7].op = OP_RING;
    out[8] = (struct wire_request){.op = OP_PING}; /* everything else is a default */
    out[9].op = OP_STATUS;
    out[9].u.status.ring = true;
}

static const struct wire_record *sample_records(void)
{
    static struct wire_record records[3];

    records[0] =
        (struct wire_record){key_of(1, SLICE("a"), SLICE("")), state_of(1, 2, SLICE("first"))};
    records[1] = (struct wire_record){key_of(1, SLICE("a"), SLICE("x")), state_of(3, 4, SLICE(""))};
    records[2] = (struct wire_record){key_of(7, SLICE("\xff\xfe"), SLICE("")),
                                      state_of(UINT64_MAX, UINT64_MAX, SLICE("\0\0"))};
    return records;
}

static const struct wire_record *sample_records_deleted(void)
{
    static struct wire_record records[2];

    records[0] = (struct wire_record){key_of(1, SLICE("dead"), SLICE("")), tombstone_of(9, 8)};
    records[1] =
        (struct wire_record){key_of(1, SLICE("live"), SLICE("s")), state_of(5, 6, SLICE("v"))};
    return records;
}

/* One for each use, built once: samples may be asked for again and again. */
static const struct wire_ring *ring_once(void)
{
    static struct wire_ring *ring;

    if (!ring)
        ring = sample_ring(64, 4, 5);
    return ring;
}

static const struct wire_status_result *sample_status(bool with_ring)
{
    static struct wire_status_result status[2];
    static struct wire_member_status members[5];
    static struct wire_problem problems[2];
    static struct wire_member_status candidates[2];
    static uint64_t records[64], tombstones[64], digests[64];
    const struct wire_ring *ring = ring_once();

    for (size_t i = 0; i < 5; i++)
        members[i] = (struct wire_member_status){.member = ring->members[i],
                                                 .state = (enum wire_member_state)i,
                                                 .state_ms = 250000 + i,
                                                 .heard_ms = i,
                                                 .voter = i % 2 == 0,
                                                 .n_slots = 512,
                                                 .n_joining = (uint32_t)i,
                                                 .boot = 3,
                                                 .software = SLICE("quoitd 0.1.0")};
    members[1].load = (struct wire_load){9, 1u << 20, UINT64_MAX, 13600, 20, 2000, LOAD_CLOCK};
    for (uint64_t i = 0; i < 64; i++) {
        records[i] = i % 5 ? 1 + 1000 * i : 0;
        tombstones[i] = i % 5 ? 1 + i : 0;
        digests[i] = i % 5 ? i << 58 | 7 : 0;
    }
    candidates[0] = (struct wire_member_status){.member = ring->members[1], .state = MEMBER_ALIVE};
    candidates[1] = members[1];
    problems[0] = (struct wire_problem){PROBLEM_DOWN, 4, SLICE("n4 is down"), SLICE("start it")};
    problems[1] = (struct wire_problem){PROBLEM_MORE, 0, SLICE("and 7 more"), SLICE("")};
    status[with_ring] =
        (struct wire_status_result){.verdict = VERDICT_DEGRADED,
                                    .text = SLICE("1 of 5 nodes is down"),
                                    .node_id = id_a,
                                    .cluster_id = id_b,
                                    .epoch = 227,
                                    .n_partitions = 64,
                                    .n_replicas = 4,
                                    .n_up = 2,
                                    .n_by_live = {0, 1, 2, 3, 58},
                                    .n_no_quorum = 6,
                                    .n_no_write = 7,
                                    .members = members,
                                    .n_members = 5,
                                    .problems = problems,
                                    .n_problems = 2,
                                    .candidates = candidates,
                                    .n_candidates = with_ring ? 2 : 0,
                                    .ring = with_ring ? ring : NULL,
                                    .vnode_records = with_ring ? records : NULL,
                                    .vnode_tombstones = with_ring ? tombstones : NULL,
                                    .vnode_digests = with_ring ? digests : NULL};
    return &status[with_ring];
}

void sample_responses(struct wire_response out[SAMPLE_RESPONSES])
{
    for (size_t i = 0; i < SAMPLE_RESPONSES; i++)
        out[i] = (struct wire_response){.id = 1000 + i, .ring_epoch = 5 + i, .hlc = 0xabcdef0123u};
    out[0].error =
        (struct wire_error){ERR_KEY_TOO_LARGE, SLICE("the key is 401 bytes"), false, 400, 401};
    out[1].error = (struct wire_error){12345, SLICE("an error of the future"), true, 0, 0};
    out[2].type = RESULT_HELLO;
    out[2].u.hello = (struct wire_hello_result){1, id_a, id_b, SLICE("quoitd 0.1.0"), 8, 7};
    out[3].type = RESULT_HELLO;
    out[3].u.hello = (struct wire_hello_result){1, id_a, {{0}}, SLICE("quoitd 0.1.0"), 1, 0};
    out[4].type = RESULT_PING;
    out[4].u.ping = (struct wire_ping_result){id_b, SLICE("n1"), SLICE("quoitd 0.1.0"), true};
    out[5].type = RESULT_GET;
    out[5].u.get = (struct wire_get_result){true, SLICE("v\0v"), {11, 12}, 2};
    out[6].type = RESULT_GET; /* not found, and nothing known of it */
    out[6].u.get = (struct wire_get_result){false, {0}, {0, 0}, 3};
    out[7].type = RESULT_WRITE;
    out[7].u.write = (struct wire_write_result){{UINT64_MAX, 1}, 3};
    out[8].type = RESULT_SCAN;
    out[8].u.scan = (struct wire_scan_result){sample_records(), 3, SLICE("next")};
    out[9].type = RESULT_RING;
    out[9].u.ring = ring_once();
    out[10].type = RESULT_STATUS;
    out[10].u.status = sample_status(false);
    out[11].type = RESULT_STATUS;
    out[11].u.status = sample_status(true);
}

static void sample_forms(struct wire_peer *out)
{
    static struct wire_form forms[5];
    static struct wire_ring bare;
    const struct wire_ring *ring = ring_once();

    bare = *ring;
    bare.fence = bare.primary = bare.slot_member = bare.slot_state = NULL;
    bare.slot_incarnation = NULL;
    forms[0] = (struct wire_form){
        .phase = FORM_EMPTY, .list_hash = 99, .self = ring->members[1], .replicas = 3};
    forms[1] = (struct wire_form){.phase = FORM_PROPOSE, .list_hash = 99, .ring = ring};
    forms[2] = (struct wire_form){.phase = FORM_SYNCED, .list_hash = 99, .ring = &bare};
    forms[3] = (struct wire_form){.phase = FORM_DECIDED, .list_hash = UINT64_MAX, .ring = ring};
    forms[4] = (struct wire_form){.phase = FORM_MEMBER, .list_hash = 1};
    for (size_t i = 0; i < 5; i++) {
        out[i].type = PEER_FORM;
        out[i].u.form = &forms[i];
    }
}

static void sample_rings(struct wire_peer *out)
{
    out[0].type = PEER_RING_ASK;
    out[1].type = PEER_RING_REPLY;
    out[1].u.ring_reply = ring_once();
    out[2].type = PEER_RING_REPLY;
    out[2].error = ERR_OVERLOADED;
}

static void sample_gossips(struct wire_peer *out)
{
    static struct wire_gossip gossips[3];
    static struct wire_rumour rumours[3];
    static struct wire_profile profile;

    profile = (struct wire_profile){.number = 3,
                                    .member = {.id = id_a,
                                               .name = SLICE("n1"),
                                               .client_address = SLICE("127.0.0.1:7400"),
                                               .peer_address = SLICE("[::1]:7401"),
                                               .zone = SLICE("zone-a"),
                                               .weight = 2},
                                    .software = SLICE("quoitd 0.1.0"),
                                    .candidate = true};
    rumours[0] = (struct wire_rumour){.id = id_a,
                                      .boot = 9,
                                      .refutation = 2,
                                      .state = MEMBER_ALIVE,
                                      .profile = &profile,
                                      .load = {4, 1u << 30, UINT64_MAX, 77, 85, 1u << 31, 3}};
    rumours[1] = (struct wire_rumour){.id = id_b, .boot = 1, .state = MEMBER_SUSPECT, .by = id_a};
    rumours[2] = (struct wire_rumour){.id = id_b, .state = MEMBER_STOPPED};
    gossips[0] = (struct wire_gossip){
        .kind = GOSSIP_ACK, .number = 17, .wall_ms = 1700000000000u, .load = {1, 2, 3, 4, 5, 6, 7}};
    gossips[1] = (struct wire_gossip){.kind = GOSSIP_PING_REQUEST, .number = 18, .target = id_b};
    gossips[2] = (struct wire_gossip){.kind = GOSSIP_SYNC_REPLY,
                                      .digest = 0x1122334455667788u,
                                      .rumours = rumours,
                                      .n_rumours = 3};
    for (size_t i = 0; i < 3; i++) {
        out[i].type = PEER_GOSSIP;
        out[i].u.gossip = &gossips[i];
    }
}

static void sample_compares(struct wire_peer *out)
{
    static const uint32_t arcs[] = {0, 7, 31}, parts[] = {0, 0xffffffffu, 5};
    static const uint32_t leaves[] = {0, 1, 1023};
    static const struct wire_known known[] = {{1, {2, 3}}, {UINT64_MAX, {UINT64_MAX, 1}}};

    out[0].type = PEER_COMPARE;
    out[0].u.compare.slot = 2;
    out[0].u.compare.closed = 0x99u;
    out[0].u.compare.digest = 0xfeedfacefeedfaceu;
    out[1].type = PEER_COMPARE;
    out[1].u.compare.bits = 15;
    out[1].u.compare.salt = 0x123456789abcdef1u;
    out[1].u.compare.arcs = arcs;
    out[1].u.compare.n_arcs = 3;
    out[2].type = PEER_COMPARE_REPLY;
    out[2].u.compare_reply.digest = 77;
    out[2].u.compare_reply.later = true;
    out[2].u.compare_reply.closed = 0x77u;
    out[2].u.compare_reply.parts = parts;
    out[2].u.compare_reply.n_parts = 3;
    out[3].type = PEER_PULL;
    out[3].u.pull.slot = 1;
    out[3].u.pull.quiet_ms = 5000;
    out[3].u.pull.leaves = leaves;
    out[3].u.pull.n_leaves = 3;
    out[3].u.pull.after = SLICE("after");
    out[3].u.pull.until = SLICE("until");
    out[3].u.pull.known = known;
    out[3].u.pull.n_known = 2;
    out[4].type = PEER_PULL_REPLY;
    out[4].u.pull_reply.records = sample_records_deleted();
    out[4].u.pull_reply.n_records = 2;
    out[4].u.pull_reply.cursor = SLICE("looked at");
    out[4].u.pull_reply.young = true;
    out[5].type = PEER_PULL_REPLY;
    out[5].error = ERR_NOT_OWNER;
}

static void sample_purges(struct wire_peer *out)
{
    static const uint32_t leaves[] = {3, 4, 16383};
    static const uint64_t digests[] = {0, UINT64_MAX, 0x123456789abcdef0u};

    out[0].type = PEER_PURGE;
    out[0].u.purge.step = PURGE_OPEN;
    out[0].u.purge.floor = 1;
    out[1].type = PEER_PURGE;
    out[1].u.purge.step = PURGE_LIST;
    out[1].u.purge.floor = UINT64_MAX;
    out[1].u.purge.leaves = leaves;
    out[1].u.purge.n_leaves = 3;
    out[2].type = PEER_PURGE_REPLY;
    out[2].u.purge_reply.closed = 0x1122334455667788u;
    out[2].u.purge_reply.entered = 9;
    out[2].u.purge_reply.digests = digests;
    out[2].u.purge_reply.n_digests = 3;
}

static void sample_registers(struct wire_peer *out)
{
    static const struct wire_ballot low = {7, {"0123456789abcdef"}, 3};
    static const struct wire_ballot high = {LIMIT_REGISTER_COUNTER, {"fedcba9876543210"}, 1};
    static struct wire_register regs[7];

    for (size_t i = 0; i < 7; i++) {
        regs[i] = (struct wire_register){.ballot = low};
        out[i].u.reg = &regs[i];
    }
    out[0].type = out[1].type = PEER_REGISTER_PREPARE;
    regs[0].ballot = high;
    regs[0].known = low;
    out[2].type = out[3].type = PEER_REGISTER_PREPARE_REPLY;
    regs[2].promised = high;
    regs[3].ballot = high;
    regs[3].accepted = low;
    regs[3].ring = SLICE("a packed\0ring");
    regs[3].n_before = 2;
    regs[3].before[0] = id_a;
    regs[3].before[1] = id_b;
    out[4].type = PEER_REGISTER_ACCEPT;
    regs[4].ring = SLICE("another one");
    regs[4].n_before = 1;
    regs[4].before[0] = id_b;
    out[5].type = out[6].type = PEER_REGISTER_ACCEPT_REPLY;
    regs[6].promised = high;
}

void sample_peers(struct wire_peer out[SAMPLE_PEERS])
{
    struct wire_hello hello = {.protocol = 1,
                               .link = LINK_WORKER,
                               .worker_from = 2,
                               .worker_to = 3,
                               .node_id = id_a,
                               .cluster_id = id_b,
                               .boot = 1u << 20,
                               .start = 0xfedcba9876543210u,
                               .candidate = true,
                               .name = SLICE("n1"),
                               .software = SLICE("quoitd 0.1.0"),
                               .n_workers = 4,
                               .ring_epoch = 6};

    for (size_t i = 0; i < SAMPLE_PEERS; i++)
        out[i] = (struct wire_peer){.id = i << 40 | 1,
                                    .deadline_ms = 250,
                                    .hlc = 0x1122334455667788u,
                                    .ring_epoch = 9,
                                    .replica = {1023, 2, 1u << 30, 17}};
    out[0].type = PEER_HELLO;
    out[0].u.hello = hello;
    out[1].type = PEER_HELLO_REPLY;
    out[1].u.hello = hello;
    out[1].u.hello.link = LINK_CONTROL;
    out[1].u.hello.cluster_id = (struct wire_id){0};
    out[2].type = PEER_GET;
    out[2].u.get.key = key_of(1, SLICE("key"), SLICE("sort"));
    out[2].u.get.digest = true;
    out[3].type = PEER_GET_REPLY;
    out[3].u.get_reply.found = FOUND_STATE;
    out[3].u.get_reply.state = state_of(5, 6, SLICE("value"));
    out[4].type = PEER_GET_REPLY;
    out[4].u.get_reply.found = FOUND_DIGEST;
    out[4].u.get_reply.state = tombstone_of(7, 8);
    out[4].u.get_reply.digest = 0xdeadbeefcafef00du;
    out[5].type = PEER_GET_REPLY;
    out[5].u.get_reply.found = FOUND_ABSENT;
    out[5].u.get_reply.floor = 4242;
    out[6].type = PEER_GET_REPLY;
    out[6].error = ERR_CORRUPT;
    out[7].type = PEER_PUT;
    out[7].u.put.key = key_of(3, SLICE("key"), SLICE(""));
    out[7].u.put.state = state_of(1, 2, SLICE("value"));
    out[7].u.put.first_hand = true;
    out[7].u.put.source = 3;
    out[8].type = PEER_PUT;
    out[8].u.put.key = key_of(1, SLICE("k"), SLICE(""));
    out[8].u.put.state = tombstone_of(3, 4);
    out[9].type = PEER_PUT_REPLY;
    out[9].u.put_reply.outcome = OUTCOME_SUPERSEDED;
    out[9].u.put_reply.version = (struct version){123, 456};
    out[10].type = PEER_PUT_REPLY;
    out[10].error = ERR_NOT_OWNER;
    out[10].replica = (struct wire_replica){0};
    out[11].type = PEER_SCAN;
    out[11].u.scan.cursor = SLICE("\0cursor");
    out[11].u.scan.page_bytes = 1u << 18;
    out[12].type = PEER_SCAN_REPLY;
    out[12].u.scan_reply.records = sample_records_deleted();
    out[12].u.scan_reply.n_records = 2;
    out[12].u.scan_reply.cursor = SLICE("after");
    out[12].u.scan_reply.floor = 31;
    sample_forms(&out[13]);
    sample_gossips(&out[18]);
    sample_compares(&out[21]);
    sample_purges(&out[27]);
    sample_rings(&out[30]);
    sample_registers(&out[33]);
}

struct wire_ring *sample_ring(uint32_t n_partitions, uint32_t n_slots, uint32_t n_members)
{
    static const uint32_t buckets[] = {1, 7};
    static char names[LIMIT_MEMBERS_MAX][8];
    struct wire_ring *ring = calloc(1, sizeof(*ring));
    struct wire_member *members = calloc(n_members, sizeof(*members));
    size_t n = (size_t)n_partitions * n_slots;
    uint32_t *entry = calloc(2 * (size_t)n_partitions + 2 * n, sizeof(*entry));
    uint64_t *incarnation = calloc(n, sizeof(*incarnation));
    uint32_t *voters = calloc(LIMIT_VOTERS_MAX, sizeof(*voters));

    assert(ring && members && entry && incarnation && voters && n_members <= LIMIT_MEMBERS_MAX);
    for (uint32_t i = 0; i < n_members; i++) {
        names[i][0] = 'n';
        for (uint32_t j = 0, d = 1000; j < 4; j++, d /= 10)
            names[i][1 + j] = (char)('0' + i / d % 10);
        members[i] = (struct wire_member){.id = id_b,
                                          .name = slice_str(names[i]),
                                          .client_address = SLICE("127.0.0.1:7400"),
                                          .peer_address = SLICE("[::1]:7500"),
                                          .zone = i % 2 ? SLICE("zone-a") : SLICE(""),
                                          .weight = i};
        memcpy(members[i].id.b, &i, sizeof(i));
    }
    *ring = (struct wire_ring){
        .epoch = 12,
        .cluster_id = id_b,
        .space = {0x51a3u, "secret-secret-!"},
        .n_partitions = n_partitions,
        .n_replicas = n_slots < LIMIT_REPLICAS_MAX ? n_slots : LIMIT_REPLICAS_MAX,
        .n_slots = n_slots,
        .next_incarnation = n + 1,
        .n_members = n_members,
        .members = members,
        .n_voters = n_members < LIMIT_VOTERS_MAX ? n_members : LIMIT_VOTERS_MAX,
        .voters = voters,
        .n_buckets = 2,
        .buckets = buckets};
    for (uint32_t i = 0; i < ring->n_voters; i++)
        voters[i] = i;
    uint32_t *fence = entry, *primary = fence + n_partitions, *member = primary + n_partitions;
    uint32_t *state = member + n;
    for (uint32_t i = 0; i < n_partitions; i++) {
        fence[i] = 1 + i % 3;
        primary[i] = i % n_slots;
    }
    for (uint32_t i = 0; i < n; i++) {
        bool exists = i % 11 != 10;
        member[i] = exists ? i % n_members : 0;
        incarnation[i] = exists ? i + 1 : 0;
        state[i] = exists ? (i % 13 == 12 ? SLOT_JOINING : SLOT_READY) : SLOT_NONE;
    }
    ring->fence = fence;
    ring->primary = primary;
    ring->slot_member = member;
    ring->slot_incarnation = incarnation;
    ring->slot_state = state;
    return ring;
}

void sample_ring_free(struct wire_ring *ring)
{
    if (!ring)
        return;
    free((void *)ring->members);
    free((void *)ring->voters);
    free((void *)ring->fence);
    free((void *)ring->slot_incarnation);
    free(ring);
}
