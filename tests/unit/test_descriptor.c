/* protobuf-c recurses without a limit, so a recursive message would let 30 KB from the network
 * overflow the stack. Walks every path from each top message through the generated descriptors.
 * Also pins the numbers of the fields, which are for ever like those of the errors.
 */
#include "test.h"

#include "peer.pb-c.h"
#include "quoit.pb-c.h"
#include "ring.pb-c.h"

#define DEPTH_MAX 8

/* True if a message is reached that lies on the path to itself. */
static bool recurses(const ProtobufCMessageDescriptor *const *path, size_t depth, size_t *ret_paths)
{
    const ProtobufCMessageDescriptor *type = path[depth - 1];
    bool leaf = true;

    for (size_t i = 0; i + 1 < depth; i++) {
        if (path[i] == type)
            return true;
    }
    if (depth >= DEPTH_MAX)
        return true; /* as good as recursive: no message of ours nests so deep */
    for (unsigned int i = 0; i < type->n_fields; i++) {
        const ProtobufCMessageDescriptor *below[DEPTH_MAX];
        if (type->fields[i].type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        leaf = false;
        memcpy(below, path, depth * sizeof(*path));
        below[depth] = type->fields[i].descriptor;
        if (recurses(below, depth + 1, ret_paths))
            return true;
    }
    *ret_paths += leaf;
    return false;
}

static bool recurses_from(const ProtobufCMessageDescriptor *type, size_t *ret_paths)
{
    return recurses(&type, 1, ret_paths);
}

static void no_message_is_recursive(void **state)
{
    size_t n_request = 0, n_response = 0, n_peer = 0, n_ring = 0;

    assert_false(recurses_from(&quoit__request__descriptor, &n_request));
    assert_false(recurses_from(&quoit__response__descriptor, &n_response));
    assert_false(recurses_from(&quoit__peer__message__descriptor, &n_peer));
    assert_false(recurses_from(&quoit__ring__descriptor, &n_ring));
    /* The walk went somewhere. */
    assert_true(n_request >= 7);
    assert_true(n_response >= 7);
    assert_true(n_peer >= 10);
    assert_int_equal(n_ring, 1);
}

/* The walk finds a cycle where there is one: a message of our own making that holds itself. */
static void a_planted_recursion_is_found(void **state)
{
    static ProtobufCMessageDescriptor inner, outer;
    static ProtobufCFieldDescriptor back = {.type = PROTOBUF_C_TYPE_MESSAGE, .descriptor = &outer};
    static ProtobufCFieldDescriptor down = {.type = PROTOBUF_C_TYPE_MESSAGE, .descriptor = &inner};
    size_t n = 0;

    inner = (ProtobufCMessageDescriptor){.n_fields = 1, .fields = &back};
    outer = (ProtobufCMessageDescriptor){.n_fields = 1, .fields = &down};
    assert_true(recurses_from(&outer, &n));
}

/* Which messages repeat at all: each needs its bound in proto/wire*.c, so a new one must be
 * noticed. */
static size_t count_repeated(const ProtobufCMessageDescriptor *type)
{
    size_t n = 0;

    for (unsigned int i = 0; i < type->n_fields; i++)
        n += type->fields[i].label == PROTOBUF_C_LABEL_REPEATED;
    return n;
}

static void repeated_fields_are_the_known_ones(void **state)
{
    assert_int_equal(count_repeated(&quoit__ring__descriptor), 8);
    assert_int_equal(count_repeated(&quoit__scan_result__descriptor), 1);
    assert_int_equal(count_repeated(&quoit__status_result__descriptor), 7);
    assert_int_equal(count_repeated(&quoit__member_status__descriptor), 0);
    assert_int_equal(count_repeated(&quoit__peer__scan_reply__descriptor), 1);
    assert_int_equal(count_repeated(&quoit__request__descriptor), 0);
    assert_int_equal(count_repeated(&quoit__response__descriptor), 0);
    assert_int_equal(count_repeated(&quoit__peer__message__descriptor), 0);
    assert_int_equal(count_repeated(&quoit__peer__form__descriptor), 0);
    assert_int_equal(count_repeated(&quoit__peer__hello__descriptor), 0);
    assert_int_equal(count_repeated(&quoit__peer__gossip__descriptor), 1);
    assert_int_equal(count_repeated(&quoit__peer__rumour__descriptor), 0);
    assert_int_equal(count_repeated(&quoit__peer__profile__descriptor), 0);
    assert_int_equal(count_repeated(&quoit__peer__compare__descriptor), 1);
    assert_int_equal(count_repeated(&quoit__peer__compare_reply__descriptor), 1);
    assert_int_equal(count_repeated(&quoit__peer__pull__descriptor), 2);
    assert_int_equal(count_repeated(&quoit__peer__pull_reply__descriptor), 1);
    assert_int_equal(count_repeated(&quoit__peer__purge__descriptor), 1);
    assert_int_equal(count_repeated(&quoit__peer__purge_reply__descriptor), 1);
    assert_int_equal(count_repeated(&quoit__peer__ring_reply__descriptor), 0);
    assert_int_equal(count_repeated(&quoit__peer__register_prepare__descriptor), 0);
    assert_int_equal(count_repeated(&quoit__peer__register_prepare_reply__descriptor), 1);
    assert_int_equal(count_repeated(&quoit__peer__register_accept__descriptor), 1);
    assert_int_equal(count_repeated(&quoit__peer__register_accept_reply__descriptor), 0);
    assert_int_equal(count_repeated(&quoit__peer__ballot__descriptor), 0);
}

struct number {
    const char *name;
    uint32_t id;
};

static void assert_numbers(const ProtobufCMessageDescriptor *type, const struct number *golden,
                           size_t n)
{
    assert_int_equal(type->n_fields, n);
    for (size_t i = 0; i < n; i++) {
        const ProtobufCFieldDescriptor *f =
            protobuf_c_message_descriptor_get_field_by_name(type, golden[i].name);
        assert_non_null(f);
        assert_int_equal(f->id, golden[i].id);
    }
}

#define ASSERT_NUMBERS(type, ...)                                                                  \
    assert_numbers(&type, (const struct number[]){__VA_ARGS__},                                    \
                   ARRAY_LEN(((const struct number[]){__VA_ARGS__})))

static void field_numbers_never_change(void **state)
{
    ASSERT_NUMBERS(quoit__request__descriptor, {"id", 1}, {"deadline_ms", 2}, {"ring_epoch", 3},
                   {"hlc", 4}, {"hello", 8}, {"ping", 9}, {"get", 10}, {"put", 11}, {"del", 12},
                   {"scan", 13}, {"ring", 14}, {"status", 15});
    ASSERT_NUMBERS(quoit__response__descriptor, {"id", 1}, {"ring_epoch", 2}, {"hlc", 3},
                   {"error", 4}, {"hello", 8}, {"ping", 9}, {"get", 10}, {"write", 11},
                   {"scan", 12}, {"ring", 13}, {"status", 14});
    ASSERT_NUMBERS(quoit__error__descriptor, {"code", 1}, {"text", 2}, {"retryable", 3},
                   {"limit", 4}, {"actual", 5});
    ASSERT_NUMBERS(quoit__key__descriptor, {"bucket", 1}, {"partition_key", 2}, {"sort_key", 3});
    ASSERT_NUMBERS(quoit__put_request__descriptor, {"key", 1}, {"level", 2}, {"value", 3});
    ASSERT_NUMBERS(quoit__get_result__descriptor, {"found", 1}, {"value", 2}, {"version", 3},
                   {"replicas", 4});
    ASSERT_NUMBERS(quoit__write_result__descriptor, {"version", 1}, {"replicas", 2});
    ASSERT_NUMBERS(quoit__scan_request__descriptor, {"partition", 1}, {"n_partitions", 2},
                   {"level", 3}, {"cursor", 4}, {"page_bytes", 5});
    ASSERT_NUMBERS(quoit__ring__descriptor, {"epoch", 1}, {"cluster_id", 2}, {"token_seed", 3},
                   {"token_secret", 4}, {"n_partitions", 5}, {"n_replicas", 6}, {"n_slots", 7},
                   {"members", 8}, {"voters", 9}, {"buckets", 10}, {"fence", 11}, {"primary", 12},
                   {"slot_member", 13}, {"slot_incarnation", 14}, {"slot_state", 15},
                   {"next_incarnation", 16});
    ASSERT_NUMBERS(quoit__member__descriptor, {"id", 1}, {"name", 2}, {"client_address", 3},
                   {"peer_address", 4}, {"zone", 5}, {"weight", 6});
    ASSERT_NUMBERS(quoit__peer__message__descriptor, {"id", 1}, {"deadline_ms", 2}, {"hlc", 3},
                   {"ring_epoch", 4}, {"replica", 5}, {"error", 6}, {"hello", 8},
                   {"hello_reply", 9}, {"get", 10}, {"get_reply", 11}, {"put", 12},
                   {"put_reply", 13}, {"scan", 14}, {"scan_reply", 15}, {"form", 16},
                   {"gossip", 17}, {"compare", 18}, {"compare_reply", 19}, {"pull", 20},
                   {"pull_reply", 21}, {"purge", 22}, {"purge_reply", 23}, {"ring_ask", 24},
                   {"ring_reply", 25}, {"register_prepare", 26}, {"register_prepare_reply", 27},
                   {"register_accept", 28}, {"register_accept_reply", 29});
    ASSERT_NUMBERS(quoit__peer__ballot__descriptor, {"counter", 1}, {"node", 2}, {"boot", 3});
    ASSERT_NUMBERS(quoit__peer__register_prepare__descriptor, {"ballot", 1}, {"known", 2});
    ASSERT_NUMBERS(quoit__peer__register_prepare_reply__descriptor, {"ballot", 1}, {"promised", 2},
                   {"accepted", 3}, {"ring", 4}, {"before", 5});
    ASSERT_NUMBERS(quoit__peer__register_accept__descriptor, {"ballot", 1}, {"ring", 2},
                   {"before", 3});
    ASSERT_NUMBERS(quoit__peer__register_accept_reply__descriptor, {"ballot", 1}, {"promised", 2});
    ASSERT_NUMBERS(quoit__peer__ring_reply__descriptor, {"ring", 1});
    ASSERT_NUMBERS(quoit__peer__put__descriptor, {"key", 1}, {"state", 2}, {"first_hand", 3},
                   {"source", 4});
    ASSERT_NUMBERS(quoit__peer__purge__descriptor, {"step", 1}, {"floor", 2}, {"leaves", 3});
    ASSERT_NUMBERS(quoit__peer__purge_reply__descriptor, {"closed", 1}, {"entered", 2},
                   {"digests", 3});
    ASSERT_NUMBERS(quoit__peer__compare__descriptor, {"slot", 1}, {"digest", 2}, {"bits", 3},
                   {"arcs", 4}, {"salt", 5}, {"closed", 6});
    ASSERT_NUMBERS(quoit__peer__compare_reply__descriptor, {"digest", 1}, {"parts", 2},
                   {"later", 3}, {"closed", 4});
    ASSERT_NUMBERS(quoit__peer__pull__descriptor, {"slot", 1}, {"quiet_ms", 2}, {"leaves", 3},
                   {"after", 4}, {"until", 5}, {"known", 6});
    ASSERT_NUMBERS(quoit__peer__pull_reply__descriptor, {"records", 1}, {"cursor", 2},
                   {"young", 3});
    ASSERT_NUMBERS(quoit__peer__replica__descriptor, {"partition", 1}, {"slot", 2},
                   {"incarnation", 3}, {"fence", 4});
    ASSERT_NUMBERS(quoit__peer__gossip__descriptor, {"kind", 1}, {"number", 2}, {"target", 3},
                   {"digest", 4}, {"load", 5}, {"rumours", 6}, {"wall_ms", 7});
    ASSERT_NUMBERS(quoit__peer__rumour__descriptor, {"id", 1}, {"boot", 2}, {"refutation", 3},
                   {"state", 4}, {"by", 5}, {"profile", 6}, {"load", 7});
    ASSERT_NUMBERS(quoit__peer__profile__descriptor, {"number", 1}, {"member", 2}, {"software", 3},
                   {"candidate", 4});
    ASSERT_NUMBERS(quoit__load__descriptor, {"number", 1}, {"n_keys", 2}, {"n_bytes", 3},
                   {"ops_per_s", 4}, {"disk_percent", 5}, {"p99_us", 6}, {"flags", 7});
    ASSERT_NUMBERS(quoit__status_request__descriptor, {"ring", 1});
    ASSERT_NUMBERS(quoit__status_result__descriptor, {"verdict", 1}, {"text", 2}, {"node_id", 3},
                   {"cluster_id", 4}, {"epoch", 5}, {"n_partitions", 6}, {"n_replicas", 7},
                   {"n_up", 8}, {"n_by_live", 9}, {"n_no_quorum", 10}, {"n_no_write", 11},
                   {"members", 12}, {"problems", 13}, {"ring", 14}, {"vnode_records", 15},
                   {"vnode_tombstones", 16}, {"vnode_digests", 17}, {"candidates", 18});
    ASSERT_NUMBERS(quoit__member_status__descriptor, {"member", 1}, {"state", 2}, {"state_ms", 3},
                   {"heard_ms", 4}, {"voter", 5}, {"n_slots", 6}, {"n_joining", 7}, {"boot", 8},
                   {"software", 9}, {"load", 10});
    ASSERT_NUMBERS(quoit__problem__descriptor, {"kind", 1}, {"member", 2}, {"text", 3},
                   {"advice", 4});
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_message_is_recursive),
        cmocka_unit_test(a_planted_recursion_is_found),
        cmocka_unit_test(repeated_fields_are_the_known_ones),
        cmocka_unit_test(field_numbers_never_change),
    };
    return cmocka_run_group_tests_name("descriptor", tests, NULL, NULL);
}
