/* test_log_damage: what a disk, an operator or a client may have done to the files of a log between
 * two openings. Damage is told from a torn end and named with file and offset; what belongs to
 * another store, another time or a newer version is refused; what only looks like a group is none.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/err.h"
#include "tests/model/log_rig.h"

#define BLOCK LOG_BLOCK_BYTES

/* ---- damage ------------------------------------------------------------------------------- */

/* n groups of one record each, in segment 1; stopped. Group i is at i * 8 KiB. */
#define GROUP_AT(i) (8192u * (i))

static void make_groups(struct log_rig *rig, unsigned n)
{
    log_rig_init(rig);
    log_rig_start(rig);
    for (unsigned i = 0; i < n; i++)
        log_rig_wait_durable(rig, log_rig_must_put(rig, 1, i, 5000));
    log_rig_stop(rig);
}

static void assert_refused(struct log_rig *rig, int error, const char *a, const char *b)
{
    assert_int_equal(log_rig_open(rig), -error);
    assert_null(rig->l);
    if (!strstr(rig->why, rig->dir) || !strstr(rig->why, a) || !strstr(rig->why, b))
        fail_msg("'%s' does not say '%s' and '%s'", rig->why, a, b);
}

static void a_flipped_bit_before_the_last_group_is_named(void **state)
{
    struct log_rig rig;

    for (unsigned i = 0; i < 4; i++) {
        make_groups(&rig, 5);
        log_rig_flip(&rig, 1, GROUP_AT(i) + 40 + 1000 * i);
        assert_refused(&rig, ERR_CORRUPT, "log.000001 at byte",
                       (const char *[]){"byte 0:", "byte 8192:", "byte 16384:", "byte 24576:"}[i]);
        log_rig_flip(&rig, 1, GROUP_AT(i) + 40 + 1000 * i);
        log_rig_start(&rig);
        log_rig_assert_replayed(&rig, 1, 0, 5);
        log_rig_deinit(&rig);
    }
}

/* It looks like a write that was cut off, which nobody was told to be durable. */
static void a_flipped_bit_in_the_last_group_cuts_it(void **state)
{
    struct log_rig rig;

    make_groups(&rig, 5);
    log_rig_flip(&rig, 1, GROUP_AT(4) + 2000);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 0, 4);
    log_rig_wait_durable(&rig, log_rig_must_put(&rig, 1, 4, 300));
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 0, 5);
    assert_int_equal(rig.replayed[4].len, 300);
    log_rig_deinit(&rig);
}

/* Behind the torn group stand whole ones of the process before, from the segment's last use. */
static void stale_groups_behind_a_torn_one_are_not_taken(void **state)
{
    uint8_t stale[LOG_GROUP_HEADER_BYTES];
    struct log_rig rig;
    unsigned i = 0;

    log_rig_init(&rig);
    rig.options.bytes_max = 2ull * LOG_RIG_SEGMENT;
    log_rig_start(&rig);
    for (; i < 16; i++) {
        uint64_t lsn = log_rig_must_put(&rig, 1, i, 5000);

        log_rig_wait_durable(&rig, lsn);
        log_rig_apply(&rig, lsn);
    }
    log_rig_stop(&rig);
    log_rig_start(&rig);
    for (; i < 19; i++)
        log_rig_wait_durable(&rig, log_rig_must_put(&rig, 1, i, 5000));
    log_rig_stop(&rig);
    log_rig_peek(&rig, 1, GROUP_AT(3), stale, sizeof(stale));
    assert_true(log_group_has_magic(slice_of(stale, sizeof(stale))) && stale[32] == 4);
    log_rig_flip(&rig, 1, GROUP_AT(2) + 100);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 16, 2);
    log_rig_wait_durable(&rig, log_rig_must_put(&rig, 1, 18, 200));
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 16, 3);
    log_rig_deinit(&rig);
}

static void a_flipped_bit_in_what_is_applied_does_not_matter(void **state)
{
    struct log_rig rig;

    make_groups(&rig, 5);
    log_rig_flip(&rig, 1, GROUP_AT(1));
    rig.applied_seq = 2;
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 2, 3);
    log_rig_deinit(&rig);
}

static void a_lost_first_group_is_a_hole(void **state)
{
    static const uint8_t zero[8192];
    struct log_rig rig;

    make_groups(&rig, 5);
    log_rig_poke(&rig, 1, GROUP_AT(2), zero, sizeof(zero));
    rig.applied_seq = 2;
    assert_refused(&rig, ERR_CORRUPT, "log.000001 at byte 16384: group 3", "group 4 is whole");
    log_rig_deinit(&rig);
}

/* A write that the disk lost at the beginning of a segment, behind which later ones arrived. */
static void a_hole_across_segments_is_found(void **state)
{
    static const uint8_t zero[8192];
    struct log_rig rig;

    make_groups(&rig, 10); /* 8 in the first, 2 in the second */
    log_rig_poke(&rig, 2, 0, zero, sizeof(zero));
    assert_refused(&rig, ERR_CORRUPT, "group 9", "log.000002 at byte 8192");
    log_rig_deinit(&rig);
}

static void the_log_of_another_store_is_refused(void **state)
{
    struct log_rig rig;
    uint64_t id;

    make_groups(&rig, 2);
    id = rig.log_id;
    rig.log_id = id + 1;
    assert_refused(&rig, ERR_CORRUPT, "log.000001", "another store");
    rig.log_id = 0;
    assert_refused(&rig, ERR_CORRUPT, "log.000001", "store is new");
    rig.log_id = id;
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 0, 2);
    log_rig_deinit(&rig);
}

static void a_log_that_is_gone_is_refused(void **state)
{
    struct log_rig rig;
    char path[128];

    make_groups(&rig, 9);
    log_rig_path(&rig, 1, path);
    assert_int_equal(unlink(path), 0);
    assert_refused(&rig, ERR_CORRUPT, "segment 1 is missing", "segment 2");
    for (unsigned i = 2; i < 5; i++) {
        log_rig_path(&rig, i, path);
        unlink(path);
    }
    assert_refused(&rig, ERR_CORRUPT, "the log is gone", "acknowledged");
    log_rig_deinit(&rig);
}

static void a_log_older_than_its_store_is_refused(void **state)
{
    struct log_rig rig;

    make_groups(&rig, 3);
    rig.applied_seq = 4;
    assert_refused(&rig, ERR_CORRUPT, "ends with group 3", "applied group 4");
    rig.applied_seq = 3;
    assert_int_equal(log_rig_open(&rig), 0);
    log_rig_deinit(&rig);
}

static void a_segment_cut_short_is_refused(void **state)
{
    struct log_rig rig;
    char path[128];

    make_groups(&rig, 3);
    log_rig_path(&rig, 1, path);
    assert_int_equal(truncate(path, 10000), 0);
    assert_refused(&rig, ERR_CORRUPT, "log.000001", "10000 bytes");
    log_rig_deinit(&rig);
}

static void poke_group(const struct log_rig *rig, struct log_group g, unsigned segment,
                       uint64_t offset, const uint8_t *records)
{
    uint8_t header[LOG_GROUP_HEADER_BYTES];
    struct iovec iov = {.iov_base = (void *)(uintptr_t)records, .iov_len = g.length};

    log_group_encode(&g, &iov, 1, header);
    log_rig_poke(rig, segment, offset, header, sizeof(header));
    log_rig_poke(rig, segment, offset + sizeof(header), records, g.length);
}

static void a_newer_format_is_refused(void **state)
{
    struct log_group g = {.format = 2, .generation = 1, .seq = 3, .count = 1, .length = 100};
    uint8_t records[100] = {92, 0, 0, 0, LOG_RIG_TYPE};
    struct log_rig rig;

    make_groups(&rig, 2);
    g.log_id = rig.log_id;
    poke_group(&rig, g, 1, GROUP_AT(2), records);
    assert_refused(&rig, ERR_FORMAT, "byte 16384", "newer version");
    log_rig_deinit(&rig);
}

static void records_that_make_no_sense_are_damage(void **state)
{
    struct log_group g = {.format = 1, .generation = 1, .seq = 3, .count = 1, .length = 100};
    uint8_t records[100] = {93, 0, 0, 0, LOG_RIG_TYPE}; /* one more than there is */
    struct log_rig rig;

    make_groups(&rig, 2);
    g.log_id = rig.log_id;
    poke_group(&rig, g, 1, GROUP_AT(2), records);
    assert_refused(&rig, ERR_CORRUPT, "byte 16384", "no sense");
    log_rig_deinit(&rig);
}

/* ---- what a client may try ---------------------------------------------------------------- */

/* A value that holds something like a group where a block begins. */
static void put_forgery(struct log_rig *rig, const uint8_t *block, size_t len)
{
    uint8_t *value = calloc(1, 3 * BLOCK);
    struct slice piece = slice_of(value, 3 * BLOCK);
    struct log_list *list = log_list_new(rig->l);

    assert_non_null(value);
    memcpy(value + BLOCK - LOG_GROUP_HEADER_BYTES - LOG_RECORD_HEADER_BYTES, block, len);
    assert_int_equal(log_list_add(list, LOG_RIG_TYPE, &piece, 1, NULL), 0);
    assert_int_equal(log_admit(rig->l, list, log_list_bytes(list), false), 0);
    log_rig_wait_durable(rig, log_append(rig->l, list, 0, 1));
    free(value);
}

/* The write of the record that holds it is torn, so recovery comes upon the block itself. */
static void check_forgery(struct log_rig *rig, uint64_t at, const uint8_t *block, size_t len)
{
    static const uint8_t zero[BLOCK];
    uint8_t there[2 * BLOCK];

    log_rig_start(rig);
    put_forgery(rig, block, len);
    log_rig_stop(rig);
    log_rig_peek(rig, 1, at + BLOCK, there, len);
    assert_memory_equal(there, block, len);
    log_rig_poke(rig, 1, at, zero, sizeof(zero));
    log_rig_start(rig);
    log_rig_assert_replayed(rig, 1, 0, 2);
    log_rig_wait_durable(rig, log_rig_must_put(rig, 1, 2, 300));
    log_rig_stop(rig);
    log_rig_start(rig);
    log_rig_assert_replayed(rig, 1, 0, 3);
}

static void a_value_that_looks_like_a_group_is_not_one(void **state)
{
    uint8_t records[100] = {92, 0, 0, 0, LOG_RIG_TYPE}, block[164];
    struct log_rig rig;

    for (unsigned i = 0; i < 4; i++) {
        struct log_group g = {.format = 1 + i / 2,
                              .generation = 9,
                              .seq = 3 + i % 2,
                              .log_id = 4711,
                              .count = 1,
                              .length = 100};
        struct iovec iov = {.iov_base = records, .iov_len = sizeof(records)};

        make_groups(&rig, 2);
        log_group_encode(&g, &iov, 1, block);
        memcpy(block + LOG_GROUP_HEADER_BYTES, records, sizeof(records));
        check_forgery(&rig, GROUP_AT(2), block, sizeof(block));
        log_rig_deinit(&rig);
    }
}

/* Someone who can read the disk stores a piece of the log itself. */
static void a_value_that_is_a_copy_of_a_group_does_no_harm(void **state)
{
    uint8_t block[8192];
    struct log_rig rig;

    make_groups(&rig, 2);
    log_rig_peek(&rig, 1, GROUP_AT(1), block, sizeof(block));
    check_forgery(&rig, GROUP_AT(2), block, sizeof(block));
    log_rig_deinit(&rig);
}

/* ---- openings that fail ------------------------------------------------------------------- */

static void what_the_replay_says_is_passed_on(void **state)
{
    struct log_rig rig;

    make_groups(&rig, 3);
    rig.replay_error = -ERR_FORMAT;
    rig.replay_error_at = 1;
    assert_refused(&rig, ERR_FORMAT, "log.000001 at byte 8192", "group 2");
    rig.replay_error = 0;
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 0, 3);
    log_rig_deinit(&rig);
}

static void a_log_is_opened_by_one_process(void **state)
{
    struct log_rig rig, other;

    log_rig_init(&rig);
    log_rig_start(&rig);
    other = rig;
    other.l = NULL;
    assert_int_equal(log_rig_open(&other), -ERR_IN_USE);
    log_rig_deinit(&rig);
}

static void a_log_of_less_than_two_segments_is_refused(void **state)
{
    struct log_rig rig;

    log_rig_init(&rig);
    rig.options.bytes_max = 2ull * LOG_RIG_SEGMENT - 1;
    assert_refused(&rig, ERR_CONFIG, "two segments", "too small");
    log_rig_deinit(&rig);
}

static void an_unfinished_segment_is_made_again(void **state)
{
    struct log_rig rig;
    char path[128];
    int fd;

    make_groups(&rig, 3);
    snprintf(path, sizeof(path), "%.80s/log.000002.new", rig.dir);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, path, 50), 50);
    close(fd);
    log_rig_start(&rig);
    for (unsigned i = 3; i < 20; i++)
        log_rig_wait_durable(&rig, log_rig_must_put(&rig, 1, i, 5000));
    assert_int_not_equal(access(path, F_OK), 0);
    log_rig_stop(&rig);
    log_rig_start(&rig);
    log_rig_assert_replayed(&rig, 1, 0, 20);
    log_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_bit_before_the_last_group_is_named),
        cmocka_unit_test(a_flipped_bit_in_the_last_group_cuts_it),
        cmocka_unit_test(stale_groups_behind_a_torn_one_are_not_taken),
        cmocka_unit_test(a_flipped_bit_in_what_is_applied_does_not_matter),
        cmocka_unit_test(a_lost_first_group_is_a_hole),
        cmocka_unit_test(a_hole_across_segments_is_found),
        cmocka_unit_test(the_log_of_another_store_is_refused),
        cmocka_unit_test(a_log_that_is_gone_is_refused),
        cmocka_unit_test(a_log_older_than_its_store_is_refused),
        cmocka_unit_test(a_segment_cut_short_is_refused),
        cmocka_unit_test(a_newer_format_is_refused),
        cmocka_unit_test(records_that_make_no_sense_are_damage),
        cmocka_unit_test(a_value_that_looks_like_a_group_is_not_one),
        cmocka_unit_test(a_value_that_is_a_copy_of_a_group_does_no_harm),
        cmocka_unit_test(what_the_replay_says_is_passed_on),
        cmocka_unit_test(a_log_is_opened_by_one_process),
        cmocka_unit_test(a_log_of_less_than_two_segments_is_refused),
        cmocka_unit_test(an_unfinished_segment_is_made_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
