/* The data directory: identity, lock, and what is refused. */
#include "tests/unit/test.h"

#include "proto/err.h"
#include "server/edge/disk.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64], dir[80];
static char why[DISK_WHY_BYTES];

static int set_up(void **state)
{
    snprintf(root, sizeof(root), "/tmp/quoit-disk-XXXXXX");
    assert_non_null(mkdtemp(root));
    snprintf(dir, sizeof(dir), "%s/data", root);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", root);
    return system(command);
}

static void write_file(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void a_new_directory_is_made_private_with_an_identity(void **state)
{
    struct disk d;
    struct stat st;
    char expect[16];

    assert_int_equal(disk_open(&d, dir, "", why), 0);
    assert_true(d.fresh);
    assert_int_equal(d.boot, 1);
    assert_false(wire_id_is_zero(&d.node_id));
    assert_true(wire_id_is_zero(&d.cluster_id));
    snprintf(expect, sizeof(expect), "n-%02x%02x%02x", d.node_id.b[0], d.node_id.b[1],
             d.node_id.b[2]);
    assert_string_equal(d.name, expect);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(stat(d.store, &st), 0);
    disk_close(&d);
}

static void identity_stays_and_boot_grows(void **state)
{
    struct disk a, b;
    struct wire_id cluster = {{7, 1, 2, 3}};

    assert_int_equal(disk_open(&a, dir, "alpha", why), 0);
    assert_int_equal(disk_set_cluster(&a, &cluster, false, why), 0);
    disk_close(&a);
    for (uint64_t boot = 2; boot < 5; boot++) {
        assert_int_equal(disk_open(&b, dir, "", why), 0);
        assert_false(b.fresh);
        assert_int_equal(b.boot, boot);
        assert_true(wire_id_equal(&a.node_id, &b.node_id));
        assert_true(wire_id_equal(&cluster, &b.cluster_id));
        assert_string_equal(b.name, "alpha");
        disk_close(&b);
    }
}

static void a_given_name_replaces_the_old_one(void **state)
{
    struct disk d;
    assert_int_equal(disk_open(&d, dir, "alpha", why), 0);
    disk_close(&d);
    assert_int_equal(disk_open(&d, dir, "beta", why), 0);
    disk_close(&d);
    assert_int_equal(disk_open(&d, dir, "", why), 0);
    assert_string_equal(d.name, "beta");
    disk_close(&d);
}

static void two_directories_are_two_nodes(void **state)
{
    struct disk a, b;
    char other[96];
    snprintf(other, sizeof(other), "%s/other/", root);
    assert_int_equal(disk_open(&a, dir, "", why), 0);
    assert_int_equal(disk_open(&b, other, "", why), 0);
    assert_false(wire_id_equal(&a.node_id, &b.node_id));
    disk_close(&a);
    disk_close(&b);
}

static void a_directory_in_use_is_refused_with_the_pid(void **state)
{
    struct disk a, b;
    char expect[DISK_WHY_BYTES];

    assert_int_equal(disk_open(&a, dir, "", why), 0);
    assert_int_equal(disk_open(&b, dir, "", why), -ERR_IN_USE);
    snprintf(expect, sizeof(expect), "%s is in use by process %d: one quoitd each.", dir,
             (int)getpid());
    assert_string_equal(why, expect);
    disk_close(&a);
    assert_int_equal(disk_open(&b, dir, "", why), 0); /* the refusal did not count as a boot */
    assert_int_equal(b.boot, 2);
    disk_close(&b);
}

static void a_newer_format_is_refused(void **state)
{
    struct disk d;
    assert_int_equal(mkdir(dir, 0700), 0);
    write_file("quoit.json", "{\"format\": 2, \"whatever\": true}");
    assert_int_equal(disk_open(&d, dir, "", why), -ERR_FORMAT);
    assert_non_null(strstr(why, "newer"));
}

static void damaged_files_are_refused_and_left_alone(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{\"format\": \"1\"}",
        "{\"format\": 0}",
        "{\"format\": 1}",
        "{\"format\": 1, \"node_id\": \"00\", \"boot\": 1, \"cluster_id\": \"\", \"name\": \"a\"}",
        "{\"format\": 1, \"node_id\": \"000102030405060708090a0b0c0d0e0f\", \"boot\": 0,"
        " \"cluster_id\": \"\", \"name\": \"a\"}",
        "{\"format\": 1, \"node_id\": \"000102030405060708090a0b0c0d0e0f\", \"boot\": 1,"
        " \"cluster_id\": \"zz\", \"name\": \"a\"}",
        "{\"format\": 1, \"node_id\": \"000102030405060708090a0b0c0d0e0f\", \"boot\": 1,"
        " \"cluster_id\": \"\", \"name\": \"\"}",
        "{\"format\": 1, \"format\": 1}"};
    struct disk d;
    char path[160], back[512];

    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(path, sizeof(path), "%s/quoit.json", dir);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        write_file("quoit.json", texts[i]);
        assert_int_equal(disk_open(&d, dir, "", why), -ERR_CORRUPT);
        assert_non_null(strstr(why, "damaged"));
        FILE *f = fopen(path, "r");
        size_t n = fread(back, 1, sizeof(back) - 1, f);
        back[n] = 0;
        fclose(f);
        assert_string_equal(back, texts[i]);
    }
}

static void a_store_without_identity_is_refused(void **state)
{
    struct disk d;
    char path[160];
    assert_int_equal(disk_open(&d, dir, "", why), 0);
    disk_close(&d);
    snprintf(path, sizeof(path), "%s/quoit.json", dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(disk_open(&d, dir, "", why), -ERR_CORRUPT);
    assert_non_null(strstr(why, "quoit.json"));
}

static void a_left_over_temporary_file_does_no_harm(void **state)
{
    struct disk d;
    assert_int_equal(disk_open(&d, dir, "", why), 0);
    disk_close(&d);
    write_file("quoit.json.new", "{\"for");
    assert_int_equal(disk_open(&d, dir, "", why), 0);
    assert_int_equal(d.boot, 2);
    disk_close(&d);
}

static void what_is_no_directory_is_refused(void **state)
{
    struct disk d;
    char path[160];
    int fd = open(dir, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(disk_open(&d, dir, "", why), -ERR_IO);
    snprintf(path, sizeof(path), "%s/no/where", root);
    assert_int_equal(disk_open(&d, path, "", why), -ERR_IO);
}

static void ids_are_read_and_written_back(void **state)
{
    struct wire_id id, back;
    char text[2 * WIRE_ID_BYTES + 1];
    for (size_t i = 0; i < WIRE_ID_BYTES; i++)
        id.b[i] = (uint8_t)(i * 17);
    disk_id_text(&id, text);
    assert_string_equal(text, "00112233445566778899aabbccddeeff");
    assert_int_equal(disk_id_parse(text, &back), 0);
    assert_true(wire_id_equal(&id, &back));
    assert_int_equal(disk_id_parse("00112233445566778899aabbccddeef", &back), -ERR_CORRUPT);
    assert_int_equal(disk_id_parse("00112233445566778899AABBCCDDEEFF", &back), -ERR_CORRUPT);
}

static void read_identity(char text[512])
{
    char path[160];
    snprintf(path, sizeof(path), "%s/quoit.json", dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, 511, f)] = 0;
    fclose(f);
}

static void an_outdated_copy_is_never_opened_again(void **state)
{
    char before[512], after[512];
    struct disk d;

    assert_int_equal(disk_open(&d, dir, "", why), 0);
    assert_int_equal(disk_set_outdated(&d, why), 0);
    disk_close(&d);
    read_identity(before);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(disk_open(&d, dir, "", why), -ERR_STALE_BOOT);
        assert_non_null(strstr(why, "old copy"));
    }
    read_identity(after); /* its boot would overtake the node's */
    assert_string_equal(before, after);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_new_directory_is_made_private_with_an_identity),
        CASE(identity_stays_and_boot_grows),
        CASE(an_outdated_copy_is_never_opened_again),
        CASE(a_given_name_replaces_the_old_one),
        CASE(two_directories_are_two_nodes),
        CASE(a_directory_in_use_is_refused_with_the_pid),
        CASE(a_newer_format_is_refused),
        CASE(damaged_files_are_refused_and_left_alone),
        CASE(a_store_without_identity_is_refused),
        CASE(a_left_over_temporary_file_does_no_harm),
        CASE(what_is_no_directory_is_refused),
        CASE(ids_are_read_and_written_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
