/* Options and the YAML file: what is taken, what wins, and what each mistake is told. */
#include "tests/unit/test.h"

#include "proto/err.h"
#include "server/edge/config.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ARGS_MAX 24

static char why[CONFIG_WHY_BYTES];
static struct config c;

/* Loads "quoitd" + args (NULL-terminated list). */
static int load(const char *first, ...)
{
    char *argv[ARGS_MAX] = {(char *)"quoitd"};
    int argc = 1;
    va_list args;

    va_start(args, first);
    for (const char *a = first; a && argc < ARGS_MAX - 1; a = va_arg(args, const char *))
        argv[argc++] = (char *)a;
    va_end(args);
    why[0] = 0;
    return config_load(&c, argc, argv, why);
}

/* The path is at most 24 bytes long. */
static const char *file_with(const char *text)
{
    static char path[32];
    snprintf(path, sizeof(path), "/tmp/quoit-conf-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return path;
}

static void refused_file(const char *text, const char *expect)
{
    char full[CONFIG_WHY_BYTES];
    const char *path = file_with(text);
    assert_int_equal(load("--data", "d", "--config", path, NULL), -ERR_CONFIG);
    unlink(path);
    snprintf(full, sizeof(full), "%s:%s", path, expect);
    assert_string_equal(why, full);
}

static void data_alone_gives_the_documented_defaults(void **state)
{
    assert_int_equal(load("--data", "d", NULL), CONFIG_GO);
    assert_string_equal(c.data, "d");
    assert_string_equal(c.listen.host, "127.0.0.1");
    assert_int_equal(c.listen.port, 7400);
    assert_string_equal(c.peer_listen.host, "127.0.0.1");
    assert_int_equal(c.peer_listen.port, 7401);
    assert_int_equal(c.replicas, 3);
    assert_int_equal(c.weight, 1);
    assert_int_equal(c.workers, 0);
    assert_true(c.map_bytes == 64ull << 30);
    assert_int_equal(c.log_level, LOG_INFO);
    assert_int_equal(c.log_format, LOG_LOGFMT);
    assert_string_equal(c.http_listen.host, "127.0.0.1");
    assert_int_equal(c.http_listen.port, 7402);
    assert_false(c.insecure);
    assert_true(config_is_local(&c));
}

static void data_is_needed(void **state)
{
    assert_int_equal(load(NULL, NULL), -ERR_CONFIG);
    assert_non_null(strstr(why, "--data DIR is needed"));
}

static void every_option_is_taken_from_the_command_line(void **state)
{
    assert_int_equal(load("--data=d", "--name=n1", "--listen=[::1]:1", "--peer-listen=127.0.0.2:2",
                          "--advertise=db:3", "--peer-advertise=db:4", "--cluster=db:4,db2:4",
                          "--replicas=5", "--zone=z", "--weight=7", "--workers=9",
                          "--map-size=1GiB", "--log-level=debug", "--log-format=json",
                          "--http-listen=127.0.0.3:5", "--accept-suspect", NULL),
                     CONFIG_GO);
    assert_string_equal(c.name, "n1");
    assert_string_equal(c.listen.host, "::1");
    assert_string_equal(c.advertise.host, "db");
    assert_int_equal(c.peer_advertise.port, 4);
    assert_int_equal(c.cluster.n, 2);
    assert_string_equal(c.cluster.list[1].host, "db2");
    assert_int_equal(c.replicas, 5);
    assert_string_equal(c.zone, "z");
    assert_int_equal(c.weight, 7);
    assert_int_equal(c.workers, 9);
    assert_true(c.map_bytes == 1u << 30);
    assert_int_equal(c.log_level, LOG_DEBUG);
    assert_int_equal(c.log_format, LOG_JSON);
    assert_string_equal(c.http_listen.host, "127.0.0.3");
    assert_true(c.accept_suspect);
}

static void every_option_is_taken_from_the_file(void **state)
{
    const char *path = file_with(
        "data: f\nname: n2\nlisten: 127.0.0.1:11\n"
        "peer-listen: 127.0.0.1:12\nadvertise: a:13\n"
        "peer-advertise: b:14\ncluster: b:14,e:1\nreplicas: 2\n"
        "zone: east\nweight: 3\nworkers: 4\nmap-size: 8MiB\n"
        "log-level: warn\nlog-format: json\nhttp-listen: off\ninsecure: true\naccept-suspect: yes\n"
        "idle-timeout: 2s\nframe-timeout: 300ms\nstall-timeout: 1m\n"
        "stop-timeout: 1s\nmax-connections: 17\n");
    assert_int_equal(load("--config", path, NULL), CONFIG_GO);
    unlink(path);
    assert_string_equal(c.data, "f");
    assert_string_equal(c.name, "n2");
    assert_int_equal(c.listen.port, 11);
    assert_int_equal(c.peer_listen.port, 12);
    assert_string_equal(c.http_listen.host, "");
    assert_int_equal(c.log_format, LOG_JSON);
    assert_int_equal(c.advertise.port, 13);
    assert_int_equal(c.peer_advertise.port, 14);
    assert_int_equal(c.cluster.n, 2);
    assert_int_equal(c.replicas, 2);
    assert_string_equal(c.zone, "east");
    assert_int_equal(c.weight, 3);
    assert_int_equal(c.workers, 4);
    assert_true(c.map_bytes == 8u << 20);
    assert_int_equal(c.log_level, LOG_WARN);
    assert_true(c.insecure);
    assert_true(c.accept_suspect);
    assert_int_equal(c.idle_ms, 2000);
    assert_int_equal(c.frame_ms, 300);
    assert_int_equal(c.stall_ms, 60000);
    assert_int_equal(c.stop_ms, 1000);
    assert_int_equal(c.connections_max, 17);
}

static void join_is_taken_from_the_file_too(void **state)
{
    const char *path = file_with("data: f\njoin: a:1,b:2\n");
    assert_int_equal(load("--config", path, NULL), CONFIG_GO);
    unlink(path);
    assert_int_equal(c.join.n, 2);
}

static void taken_file(const char *text)
{
    const char *path = file_with(text);
    int rc = load("--data", "d", "--config", path, NULL);
    unlink(path);
    assert_string_equal(why, "");
    assert_int_equal(rc, CONFIG_GO);
}

static void lists_of_addresses_may_be_sequences(void **state)
{
    taken_file("cluster:\n  - 127.0.0.1:7401\n  - \"b:2\"\n  - c:3\nweight: 7\n");
    assert_int_equal(c.cluster.n, 3);
    assert_string_equal(c.cluster.list[1].host, "b");
    assert_int_equal(c.cluster.list[2].port, 3);
    assert_int_equal(c.weight, 7);
    taken_file("join: [a:1, b:2]\n");
    assert_int_equal(c.join.n, 2);
    assert_int_equal(c.cluster.n, 0);
    assert_string_equal(c.join.list[1].host, "b");
}

static void other_shapes_are_told_apart(void **state)
{
    static const char list[] = "a list of addresses is wanted, or one text with commas between "
                               "them";
    char expect[256];

    snprintf(expect, sizeof(expect), "2:1: cluster: %s", list);
    refused_file("weight: 7\ncluster:\n  a: 1\n", expect);
    refused_file("weight: 7\ncluster:\n  - a:1\n  - [b:1]\n", expect);
    refused_file("weight: [7]\n", "1:1: weight: one value is wanted, not a list or a mapping");
    refused_file("- weight\n", "1:1: the file must be a mapping: one \"option: value\" a line");
    refused_file("weight: 7\nwieght: [7]\n",
                 "2:1: unknown key \"wieght\"; did you mean \"weight\"?");
}

static void an_empty_document_changes_nothing(void **state)
{
    taken_file("---\n");
    taken_file("# nothing yet\n");
    taken_file("---\n# nothing yet\n...\n");
    taken_file("~\n");
    assert_int_equal(c.weight, 1);
}

static void the_command_line_wins_over_the_file(void **state)
{
    const char *path = file_with("data: f\nreplicas: 2\nworkers: 4\n");
    assert_int_equal(load("--replicas", "1", "--config", path, NULL), CONFIG_GO);
    unlink(path);
    assert_int_equal(c.replicas, 1);
    assert_int_equal(c.workers, 4);
}

static void an_empty_file_changes_nothing(void **state)
{
    const char *path = file_with("# nothing yet\n");
    assert_int_equal(load("--data", "d", "--config", path, NULL), CONFIG_GO);
    unlink(path);
    assert_int_equal(c.replicas, 3);
}

static void an_unknown_key_is_told_with_its_place_and_a_suggestion(void **state)
{
    refused_file("data: f\n\nlisen: 127.0.0.1:1\n",
                 "3:1: unknown key \"lisen\"; did you mean \"listen\"?");
    refused_file("  data: f\n  idel-timeout: 1s\n",
                 "2:3: unknown key \"idel-timeout\"; did you mean \"idle-timeout\"?");
    refused_file("zzzzqqqq: 1\n", "1:1: unknown key \"zzzzqqqq\"");
}

static void options_that_are_no_keys_are_unknown_in_the_file(void **state)
{
    refused_file("config: other.yaml\n", "1:1: unknown key \"config\"");
    refused_file("check-config: true\n", "1:1: unknown key \"check-config\"");
}

static void a_bad_value_is_told_with_its_place(void **state)
{
    refused_file("data: f\nreplicas: 8\n", "2:1: replicas: \"8\": a number from 1 to 7 is needed");
    refused_file("data: f\ninsecure: maybe\n", "2:1: insecure: \"maybe\": true or false is needed");
    refused_file("map-size: 3QB\n",
                 "1:1: map-size: \"3QB\": a size from 4MiB to 64TiB is needed, as in 64GiB");
}

static void a_key_given_twice_is_refused(void **state)
{
    const char *path = file_with("data: f\ndata: g\n");
    assert_int_equal(load("--config", path, NULL), -ERR_CONFIG);
    unlink(path);
    assert_non_null(strstr(why, "already seen"));
}

static void broken_yaml_is_refused(void **state)
{
    static const char *const texts[] = {"data: f\n\tname: x\n", "[a, b]\n",    "data: [a, b]\n",
                                        "data: {a: b}\n",       "just text\n", "data: 'open\n"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const char *path = file_with(texts[i]);
        assert_int_equal(load("--data", "d", "--config", path, NULL), -ERR_CONFIG);
        unlink(path);
        assert_int_equal(strncmp(why, path, strlen(path)), 0);
    }
}

static void a_missing_file_is_named(void **state)
{
    assert_int_equal(load("--data", "d", "--config", "/nonexistent/q.yaml", NULL), -ERR_CONFIG);
    assert_string_equal(why, "cannot open the configuration file /nonexistent/q.yaml");
}

static void an_unknown_option_gets_a_suggestion(void **state)
{
    assert_int_equal(load("--data", "d", "--lisen=x", NULL), -ERR_CONFIG);
    assert_string_equal(why, "unknown option --lisen (did you mean --listen?)");
    assert_int_equal(load("--data", "d", "--qqqqqqqq", NULL), -ERR_CONFIG);
    assert_string_equal(why, "unknown option --qqqqqqqq");
    /* keys of the file are no options */
    assert_int_equal(load("--data", "d", "--idle-timeout=1s", NULL), -ERR_CONFIG);
}

static void a_stray_argument_is_refused(void **state)
{
    assert_int_equal(load("--data", "d", "stray", NULL), -ERR_CONFIG);
    assert_non_null(strstr(why, "\"stray\""));
}

static void a_scrub_has_a_rate_or_is_none(void **state)
{
    assert_int_equal(load("--data", "d", NULL), CONFIG_GO);
    assert_true(c.scrub_rate == CONFIG_SCRUB_RATE_AUTO);
    assert_int_equal(load("--data", "d", "--scrub-rate", "10MiB", NULL), CONFIG_GO);
    assert_int_equal(c.scrub_rate, 10u << 20);
    assert_int_equal(load("--data", "d", "--scrub-rate", "0", NULL), CONFIG_GO);
    assert_int_equal(c.scrub_rate, 0);
    assert_int_equal(load("--data", "d", "--scrub-rate", "fast", NULL), -ERR_CONFIG);
    assert_non_null(strstr(why, "--scrub-rate: \"fast\""));
    assert_int_equal(load("--data", "d", "--scrub-rate", "2TiB", NULL), -ERR_CONFIG);
    assert_int_equal(load("--data", "d", "--scrub-rate", "10", NULL), -ERR_CONFIG); /* of what? */
    assert_non_null(strstr(why, "from 4KiB"));
    assert_int_equal(load("--data", "d", "--scrub-rate", "4095", NULL), -ERR_CONFIG);
    assert_int_equal(load("--data", "d", "--scrub-rate", "4KiB", NULL), CONFIG_GO);
    assert_int_equal(c.scrub_rate, 4096);
}

static void an_open_address_needs_insecure(void **state)
{
    assert_int_equal(load("--data", "d", "--listen", "10.1.2.3:7400", NULL), -ERR_CONFIG);
    assert_non_null(strstr(why, "--insecure"));
    assert_int_equal(load("--data", "d", "--http-listen", "10.1.2.3:7402", NULL), -ERR_CONFIG);
    assert_non_null(strstr(why, "--http-listen"));
    assert_int_equal(load("--data", "d", "--peer-listen", "10.1.2.3:7401", NULL), -ERR_CONFIG);
    assert_non_null(strstr(why, "--insecure"));
    assert_int_equal(load("--data", "d", "--listen", "10.1.2.3:7400", "--insecure", NULL),
                     CONFIG_GO);
    assert_false(config_is_local(&c));
}

static void a_wildcard_address_needs_one_to_tell(void **state)
{
    assert_int_equal(load("--data", "d", "--insecure", "--listen", "0.0.0.0:7400", NULL),
                     -ERR_CONFIG);
    assert_non_null(strstr(why, "--advertise"));
    assert_int_equal(load("--data", "d", "--insecure", "--peer-listen", "[::]:7401", NULL),
                     -ERR_CONFIG);
    assert_non_null(strstr(why, "--peer-advertise"));
    assert_int_equal(load("--data", "d", "--insecure", "--listen", "0.0.0.0:7400", "--advertise",
                          "db:7400", NULL),
                     CONFIG_GO);
}

static void cluster_must_name_this_node(void **state)
{
    assert_int_equal(load("--data", "d", "--cluster", "127.0.0.1:1,127.0.0.1:2", NULL),
                     -ERR_CONFIG);
    assert_non_null(strstr(why, "127.0.0.1:7401"));
    assert_int_equal(load("--data", "d", "--cluster", "127.0.0.1:1,127.0.0.1:7401", NULL),
                     CONFIG_GO);
}

static void lists_of_peers_are_checked(void **state)
{
    static const char *const bad[] = {"",    ",", "a:1,",    "a:1,a:1",
                                      "a:0", "a", "a:1;b:2", "a:1, b:2"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(load("--data", "d", "--join", bad[i], NULL), -ERR_CONFIG);
    assert_int_equal(load("--data", "d", "--cluster", "127.0.0.1:7401", "--join", "a:1", NULL),
                     -ERR_CONFIG);
}

static void sizes_carry_their_unit(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},
                {"17", 17},
                {"4KiB", 4096},
                {"4kib", 4096},
                {"1MB", 1000000},
                {"64GiB", 64ull << 30},
                {"2TiB", 2ull << 40},
                {"5B", 5},
                {"18446744073709551615", UINT64_MAX}};
    static const char *const bad[] = {"",
                                      "x",
                                      "-1",
                                      "1.5GiB",
                                      "1 GiB",
                                      "GiB",
                                      "1Gib2",
                                      "18446744073709551616",
                                      "18446744073709551615KiB",
                                      "+1",
                                      " 1"};
    uint64_t n;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(config_size_parse(good[i].text, &n), 0);
        assert_true(n == good[i].bytes);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(config_size_parse(bad[i], &n), -ERR_CONFIG);
}

static void durations_carry_their_unit(void **state)
{
    uint32_t ms;
    assert_int_equal(config_duration_parse("250ms", &ms), 0);
    assert_int_equal(ms, 250);
    assert_int_equal(config_duration_parse("2h", &ms), 0);
    assert_int_equal(ms, 7200000);
    assert_int_equal(config_duration_parse("5", &ms), -ERR_CONFIG);
    assert_int_equal(config_duration_parse("5 s", &ms), -ERR_CONFIG);
    assert_int_equal(config_duration_parse("99999999h", &ms), -ERR_CONFIG);
}

static void addresses_are_read_and_written_back(void **state)
{
    static const char *const good[] = {"127.0.0.1:7400", "[::1]:0", "db-1.example:65535",
                                       "[fe80::1]:80"};
    static const char *const bad[] = {"",      "a",        ":1",     "a:",        "a:65536",
                                      "a:-1",  "::1:7400", "[::1]",  "[::1]7400", "[x]:1",
                                      "a b:1", "a:1:2",    "a:0x10", "[::1:7400", "a\x7f:1"};
    char text[ADDRESS_TEXT_BYTES];
    struct address a;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(address_parse(good[i], &a), 0);
        address_text(&a, text);
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(address_parse(bad[i], &a), -ERR_CONFIG);
}

static void too_long_a_host_is_refused(void **state)
{
    char text[LIMIT_ADDRESS_BYTES + 64];
    struct address a;
    memset(text, 'a', sizeof(text));
    memcpy(text + sizeof(text) - 4, ":80", 4);
    assert_int_equal(address_parse(text, &a), -ERR_CONFIG);
}

static void loopback_is_recognised(void **state)
{
    static const struct {
        const char *text;
        bool loopback;
    } cases[] = {{"127.0.0.1:1", true},  {"127.255.3.4:1", true},
                 {"[::1]:1", true},      {"[::ffff:127.0.0.1]:1", true},
                 {"128.0.0.1:1", false}, {"0.0.0.0:1", false},
                 {"[::]:1", false},      {"[::ffff:10.0.0.1]:1", false},
                 {"10.0.0.1:1", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sockaddr_storage ss;
        socklen_t len;
        struct address a;
        assert_int_equal(address_parse(cases[i].text, &a), 0);
        assert_int_equal(address_numeric(&a, &ss, &len), 0);
        assert_int_equal(address_is_loopback(&ss), cases[i].loopback);
    }
}

static void names_are_plain_and_short(void **state)
{
    char name[LIMIT_NAME_BYTES + 2];
    memset(name, 'n', sizeof(name));
    name[LIMIT_NAME_BYTES + 1] = 0;
    assert_int_equal(load("--data", "d", "--name", name, NULL), -ERR_CONFIG);
    name[LIMIT_NAME_BYTES] = 0;
    assert_int_equal(load("--data", "d", "--name", name, NULL), CONFIG_GO);
    assert_int_equal(load("--data", "d", "--name", "two words", NULL), -ERR_CONFIG);
    assert_int_equal(load("--data", "d", "--name", "", NULL), -ERR_CONFIG);
    assert_int_equal(load("--data", "d", "--name", "a\nb", NULL), -ERR_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_alone_gives_the_documented_defaults),
        cmocka_unit_test(data_is_needed),
        cmocka_unit_test(every_option_is_taken_from_the_command_line),
        cmocka_unit_test(every_option_is_taken_from_the_file),
        cmocka_unit_test(join_is_taken_from_the_file_too),
        cmocka_unit_test(lists_of_addresses_may_be_sequences),
        cmocka_unit_test(other_shapes_are_told_apart),
        cmocka_unit_test(an_empty_document_changes_nothing),
        cmocka_unit_test(the_command_line_wins_over_the_file),
        cmocka_unit_test(an_empty_file_changes_nothing),
        cmocka_unit_test(an_unknown_key_is_told_with_its_place_and_a_suggestion),
        cmocka_unit_test(options_that_are_no_keys_are_unknown_in_the_file),
        cmocka_unit_test(a_bad_value_is_told_with_its_place),
        cmocka_unit_test(a_key_given_twice_is_refused),
        cmocka_unit_test(broken_yaml_is_refused),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(an_unknown_option_gets_a_suggestion),
        cmocka_unit_test(a_stray_argument_is_refused),
        cmocka_unit_test(a_scrub_has_a_rate_or_is_none),
        cmocka_unit_test(an_open_address_needs_insecure),
        cmocka_unit_test(a_wildcard_address_needs_one_to_tell),
        cmocka_unit_test(cluster_must_name_this_node),
        cmocka_unit_test(lists_of_peers_are_checked),
        cmocka_unit_test(sizes_carry_their_unit),
        cmocka_unit_test(durations_carry_their_unit),
        cmocka_unit_test(addresses_are_read_and_written_back),
        cmocka_unit_test(too_long_a_host_is_refused),
        cmocka_unit_test(loopback_is_recognised),
        cmocka_unit_test(names_are_plain_and_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
