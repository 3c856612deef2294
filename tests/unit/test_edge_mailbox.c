/* Letters between loops: copies that outlive their originals, order, room. */
#include "tests/unit/test.h"

#include "proto/err.h"
#include "server/edge/mailbox.h"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static struct letter *first(struct list *letters)
{
    struct letter *l = list_entry(letters->next, struct letter, link);
    assert_false(list_empty(letters));
    list_remove(&l->link);
    return l;
}

static size_t length(const struct list *letters)
{
    size_t n = 0;
    for (const struct list *at = letters->next; at != letters; at = at->next)
        n++;
    return n;
}

static void drop(struct list *letters)
{
    while (!list_empty(letters))
        letter_free(first(letters));
}

/* A letter with id as its message's id. */
static void add(struct list *batch, enum wire_peer_type type, uint64_t id)
{
    struct wire_peer msg = {.type = type, .id = id};
    struct letter *l = letter_peer(3, &msg, NULL);
    assert_non_null(l);
    list_append(batch, &l->link);
}

static bool equal(struct slice s, const char *text)
{
    return slice_equal(s, slice_str(text));
}

static void a_letter_outlives_the_bytes_it_was_made_from(void **state)
{
    char key[] = "key", sort[] = "sort", value[] = "value";
    struct wire_peer msg = {.type = PEER_PUT, .id = 5, .replica = {.partition = 9, .fence = 2}};
    msg.u.put.key = (struct key){1, slice_str(key), slice_str(sort)};
    msg.u.put.state = (struct state){.kind = STATE_LWW, .version = {7, 8}};
    msg.u.put.state.value = slice_str(value);

    struct letter *l = letter_peer(2, &msg, NULL);
    memset(key, 'x', 3);
    memset(sort, 'x', 4);
    memset(value, 'x', 5);
    const struct wire_peer *copy = &l->u.peer.msg;
    assert_int_equal(l->from, 2);
    assert_int_equal(copy->id, 5);
    assert_int_equal(copy->replica.partition, 9);
    assert_true(equal(copy->u.put.key.partition, "key"));
    assert_true(equal(copy->u.put.key.sort, "sort"));
    assert_true(equal(copy->u.put.state.value, "value"));
    assert_true(copy->u.put.state.version.actor == 8);
    letter_free(l);
}

static void every_kind_of_message_is_copied_whole(void **state)
{
    char a[] = "a", b[] = "b", c[] = "c";
    struct wire_record records[2] = {
        {.key = {1, slice_str(a), slice_str(b)}, .state = {.kind = STATE_LWW}},
        {.key = {2, slice_str(b), {0}}, .state = {.kind = STATE_LWW, .deleted = true}}};
    struct wire_peer get = {.type = PEER_GET}, reply = {.type = PEER_GET_REPLY};
    struct wire_peer scan = {.type = PEER_SCAN}, page = {.type = PEER_SCAN_REPLY};

    records[0].state.value = slice_str(c);
    get.u.get.key.partition = slice_str(a);
    reply.u.get_reply.state.value = slice_str(b);
    scan.u.scan.cursor = slice_str(c);
    page.u.scan_reply.records = records;
    page.u.scan_reply.n_records = 2;
    page.u.scan_reply.cursor = slice_str(a);
    struct letter *l1 = letter_peer(0, &get, NULL), *l2 = letter_peer(0, &reply, NULL);
    struct letter *l3 = letter_peer(0, &scan, NULL), *l4 = letter_peer(0, &page, NULL);
    a[0] = b[0] = c[0] = 'x';
    memset(records, 0, sizeof(records));

    assert_true(equal(l1->u.peer.msg.u.get.key.partition, "a"));
    assert_true(equal(l2->u.peer.msg.u.get_reply.state.value, "b"));
    assert_true(equal(l3->u.peer.msg.u.scan.cursor, "c"));
    const struct wire_record *copy = l4->u.peer.msg.u.scan_reply.records;
    assert_true(equal(copy[0].key.partition, "a"));
    assert_true(equal(copy[0].key.sort, "b"));
    assert_true(equal(copy[0].state.value, "c"));
    assert_true(equal(copy[1].key.partition, "b"));
    assert_true(copy[1].state.deleted);
    assert_true(equal(l4->u.peer.msg.u.scan_reply.cursor, "a"));
    letter_free(l1);
    letter_free(l2);
    letter_free(l3);
    letter_free(l4);
}

static void questions_of_comparison_are_copied_whole(void **state)
{
    char a[] = "a", b[] = "b";
    uint32_t numbers[] = {3, 4, 5};
    struct wire_known known[] = {{6, {7, 8}}};
    struct wire_peer compare = {.type = PEER_COMPARE}, reply = {.type = PEER_COMPARE_REPLY};
    struct wire_peer pull = {.type = PEER_PULL};

    compare.u.compare.arcs = reply.u.compare_reply.parts = pull.u.pull.leaves = numbers;
    compare.u.compare.n_arcs = reply.u.compare_reply.n_parts = pull.u.pull.n_leaves = 3;
    pull.u.pull.known = known;
    pull.u.pull.n_known = 1;
    pull.u.pull.after = slice_str(a);
    pull.u.pull.until = slice_str(b);
    struct letter *l1 = letter_peer(0, &compare, NULL), *l2 = letter_peer(0, &reply, NULL);
    struct letter *l3 = letter_peer(0, &pull, NULL);
    a[0] = b[0] = 'x';
    memset(numbers, 0, sizeof(numbers));
    memset(known, 0, sizeof(known));

    assert_int_equal(l1->u.peer.msg.u.compare.arcs[2], 5);
    assert_int_equal(l2->u.peer.msg.u.compare_reply.parts[0], 3);
    assert_int_equal(l3->u.peer.msg.u.pull.leaves[1], 4);
    assert_true(l3->u.peer.msg.u.pull.known[0].version.actor == 8);
    assert_true(equal(l3->u.peer.msg.u.pull.after, "a"));
    assert_true(equal(l3->u.peer.msg.u.pull.until, "b"));
    letter_free(l1);
    letter_free(l2);
    letter_free(l3);
}

static void a_value_in_a_blob_is_shared_not_copied(void **state)
{
    struct blob *blob = blob_copy(slice_str("a long value"));
    struct wire_peer msg = {.type = PEER_PUT};
    msg.u.put.key.partition = slice_str("k");
    msg.u.put.state.value = blob_slice(blob);

    struct letter *l = letter_peer(0, &msg, blob);
    blob_unref(blob);
    assert_ptr_equal(l->u.peer.msg.u.put.state.value.data, l->u.peer.owner->data);
    assert_true(equal(l->u.peer.msg.u.put.state.value, "a long value"));
    letter_free(l);
}

static void letters_arrive_in_order_and_only_the_first_wakes(void **state)
{
    struct mailbox m;
    struct list batch, out;
    list_init(&batch);
    list_init(&out);
    mailbox_init(&m);

    add(&batch, PEER_GET, 1);
    add(&batch, PEER_GET_REPLY, 2);
    assert_true(mailbox_post(&m, &batch));
    add(&batch, PEER_PUT, 3);
    assert_false(mailbox_post(&m, &batch));
    assert_false(mailbox_post(&m, &batch)); /* nothing posted wakes nobody */
    mailbox_take(&m, &out);
    for (uint64_t id = 1; id <= 3; id++) {
        struct letter *l = first(&out);
        assert_int_equal(l->u.peer.msg.id, id);
        letter_free(l);
    }
    assert_true(list_empty(&out));
    add(&batch, PEER_PUT, 4);
    assert_true(mailbox_post(&m, &batch));
    mailbox_deinit(&m); /* frees what is left */
}

static void a_full_box_gives_requests_back_and_takes_the_rest(void **state)
{
    struct mailbox m;
    struct list batch, out;
    list_init(&batch);
    list_init(&out);
    mailbox_init(&m);

    for (uint64_t i = 0; i < MAILBOX_REQUESTS_MAX; i++)
        add(&batch, PEER_GET, i);
    mailbox_post(&m, &batch);
    assert_true(list_empty(&batch));

    add(&batch, PEER_SCAN, 1000001);
    add(&batch, PEER_PUT_REPLY, 1000002);
    add(&batch, PEER_PUT, 1000003);
    struct letter *stop = letter_new(LETTER_STOP, 0);
    list_append(&batch, &stop->link);
    mailbox_post(&m, &batch);
    assert_int_equal(length(&batch), 2);
    assert_int_equal(list_entry(batch.next, struct letter, link)->u.peer.msg.id, 1000001);
    drop(&batch);

    mailbox_take(&m, &out);
    assert_int_equal(length(&out), MAILBOX_REQUESTS_MAX + 2);
    drop(&out);
    add(&batch, PEER_GET, 7); /* taken: there is room again */
    mailbox_post(&m, &batch);
    assert_true(list_empty(&batch));
    mailbox_deinit(&m);
}

static void a_letter_not_read_closes_its_socket(void **state)
{
    int fds[2];
    char byte;
    assert_int_equal(pipe(fds), 0);
    struct letter *l = letter_new(LETTER_SOCKET, 0);
    l->u.socket.fd = fds[1];
    letter_free(l);
    assert_int_equal(read(fds[0], &byte, 1), 0); /* the write end is gone */
    close(fds[0]);
}

/* ---- several writers --------------------------------------------------------------------------
 */

#define WRITERS 4
#define PER_WRITER 2000u

static void *write_many(void *arg)
{
    struct mailbox *m = arg;
    struct list batch;
    list_init(&batch);
    for (uint64_t i = 0; i < PER_WRITER; i++) {
        add(&batch, PEER_GET_REPLY, i);
        if (i % 7 == 0)
            mailbox_post(m, &batch);
    }
    mailbox_post(m, &batch);
    return NULL;
}

static void nothing_is_lost_between_threads(void **state)
{
    struct mailbox m;
    struct list out;
    pthread_t threads[WRITERS];
    size_t n = 0;

    mailbox_init(&m);
    list_init(&out);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &m), 0);
    while (n < WRITERS * PER_WRITER) {
        mailbox_take(&m, &out);
        n += length(&out);
        drop(&out);
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    mailbox_take(&m, &out);
    assert_true(list_empty(&out));
    assert_int_equal(n, WRITERS * PER_WRITER);
    mailbox_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_letter_outlives_the_bytes_it_was_made_from),
        cmocka_unit_test(every_kind_of_message_is_copied_whole),
        cmocka_unit_test(questions_of_comparison_are_copied_whole),
        cmocka_unit_test(a_value_in_a_blob_is_shared_not_copied),
        cmocka_unit_test(letters_arrive_in_order_and_only_the_first_wakes),
        cmocka_unit_test(a_full_box_gives_requests_back_and_takes_the_rest),
        cmocka_unit_test(a_letter_not_read_closes_its_socket),
        cmocka_unit_test(nothing_is_lost_between_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
