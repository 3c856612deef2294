/* library: libquoit as a program outside the tree sees it: the installed header, the shared
 * library.
 *
 *     library ENDPOINT DEAD_ENDPOINT        exit 0 if everything is as quoit.h says
 *     library again ENDPOINT                puts, waits for a line, puts again
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/quoit.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "library.c:%d: %s\n", __LINE__, #condition);                           \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define MANY 5000

static struct quoit *open_handle(const char *endpoints, bool direct, uint32_t max_requests)
{
    struct quoit_config config;
    struct quoit *q;

    quoit_config_init(&config);
    config.endpoints = endpoints;
    config.direct = direct;
    config.max_requests = max_requests;
    CHECK(quoit_new(&config, &q) == 0);
    return q;
}

static void blocking_calls(const char *endpoint)
{
    struct quoit *q = open_handle(endpoint, false, 100);
    struct quoit_result r;
    struct quoit_version first;

    CHECK(quoit_put(q, "lib", 3, "value", 5, NULL, &r) == 0);
    CHECK(r.code == 0 && r.replicas == 1 && r.attempts == 1 && !*r.text);
    CHECK(!strcmp(r.node, endpoint));
    first = r.version;
    CHECK(quoit_get(q, "lib", 3, NULL, &r) == 0);
    CHECK(r.value_len == 5 && !memcmp(r.value, "value", 5));
    CHECK(r.version.hlc == first.hlc && r.version.actor == first.actor);
    CHECK(quoit_del(q, "lib", 3, NULL, NULL) == 0);
    CHECK(quoit_get(q, "lib", 3, NULL, &r) == QUOIT_NOT_FOUND);
    CHECK(r.code == QUOIT_NOT_FOUND && r.version.hlc > first.hlc);
    CHECK(quoit_ping(q, NULL, &r) == 0);
    CHECK(r.serving && !strcmp(r.name, "n1") && !strncmp(r.software, "quoitd ", 7));
    quoit_free(q);
}

static void sort_keys(const char *endpoint)
{
    struct quoit *q = open_handle(endpoint, false, 100);
    struct quoit_options a = {.sort_key = "a", .sort_key_len = 1};
    struct quoit_options b = {.sort_key = "b", .sort_key_len = 1, .level = QUOIT_ALL};
    struct quoit_place pa, pb;
    struct quoit_result r;

    CHECK(quoit_put(q, "sorted", 6, "1", 1, &a, NULL) == 0);
    CHECK(quoit_put(q, "sorted", 6, "2", 1, &b, NULL) == 0);
    CHECK(quoit_get(q, "sorted", 6, &a, &r) == 0 && *(const char *)r.value == '1');
    CHECK(quoit_get(q, "sorted", 6, &b, &r) == 0 && *(const char *)r.value == '2');
    CHECK(quoit_get(q, "sorted", 6, NULL, &r) == QUOIT_NOT_FOUND);
    CHECK(quoit_locate(q, "sorted", 6, &a, &pa) == -QUOIT_ERR_NOT_READY);
    CHECK(quoit_ring(q, NULL, &r) == 0 && r.epoch == 1 && r.n_partitions == 1024);
    CHECK(quoit_locate(q, "sorted", 6, &a, &pa) == 0);
    CHECK(quoit_locate(q, "sorted", 6, &b, &pb) == 0);
    CHECK(pa.token == pb.token && pa.partition == pa.token >> 54 && pa.n_owners == 1);
    CHECK(!strcmp(pb.owners[0].client, endpoint) && pb.owners[0].primary);
    CHECK(quoit_del(q, "sorted", 6, &a, NULL) == 0 && quoit_del(q, "sorted", 6, &b, NULL) == 0);
    quoit_free(q);
}

/* It is whole, and outlives other calls. */
static void status(const char *endpoint)
{
    struct quoit *q = open_handle(endpoint, false, 100);
    const struct quoit_status *s;
    struct quoit_result r;

    CHECK(quoit_status(q, true, NULL, &r) == 0);
    s = r.status;
    CHECK(s && s->verdict == QUOIT_HEALTHY && s->n_members == 1 && s->n_up == 1);
    CHECK(s->n_partitions == 1024 && s->n_by_live[1] == 1024 && s->n_problems == 0);
    CHECK(s->partitions && s->partitions[7].n_live == 1);
    CHECK(s->partitions[7].replicas[0].member == &s->members[0]);
    CHECK(quoit_put(q, "meanwhile", 9, "1", 1, NULL, &r) == 0 && !r.status);
    CHECK(!strcmp(s->members[0].client, endpoint) && s->members[0].state == QUOIT_UP);
    CHECK(quoit_status(q, false, NULL, &r) == 0 && !r.status->partitions);
    quoit_free(q);
}

static void wrong_arguments(const char *endpoint)
{
    struct quoit *q = open_handle(endpoint, false, 100);
    struct quoit_options o = {.timeout_ms = QUOIT_TIMEOUT_MS_MAX + 1};
    struct quoit_config config;
    struct quoit *none = NULL;
    struct quoit_result r;
    char key[QUOIT_KEY_BYTES_MAX + 1] = {0};
    char *big = calloc(1, QUOIT_VALUE_BYTES_MAX + 1);

    CHECK(big);
    CHECK(quoit_get(q, "", 0, NULL, &r) == -QUOIT_ERR_KEY_EMPTY);
    CHECK(quoit_get(q, key, sizeof(key), NULL, &r) == -QUOIT_ERR_KEY_TOO_LARGE);
    CHECK(r.limit == QUOIT_KEY_BYTES_MAX && r.actual == sizeof(key) && *r.text);
    CHECK(quoit_put(q, "k", 1, big, QUOIT_VALUE_BYTES_MAX + 1, NULL, &r) ==
          -QUOIT_ERR_VALUE_TOO_LARGE);
    CHECK(r.limit == QUOIT_VALUE_BYTES_MAX && r.actual == QUOIT_VALUE_BYTES_MAX + 1);
    CHECK(quoit_get(q, "k", 1, &o, &r) == -QUOIT_ERR_BAD_REQUEST);
    CHECK(quoit_scan(q, 0, NULL, 0, 0, NULL, &r) == -QUOIT_ERR_NOT_READY);
    quoit_free(q);
    quoit_config_init(&config);
    config.endpoints = "a:b:c";
    CHECK(quoit_new(&config, &none) == -QUOIT_ERR_CONFIG && !none);
    config.endpoints = "";
    CHECK(quoit_new(&config, &none) == -QUOIT_ERR_CONFIG);
    quoit_config_init(&config);
    config.connections = 0;
    CHECK(quoit_new(&config, &none) == -QUOIT_ERR_CONFIG);
    CHECK(!strcmp(quoit_error_name(-QUOIT_ERR_NO_QUORUM), "NO_QUORUM"));
    free(big);
    quoit_free(NULL);
}

/* ---- asynchronous ------------------------------------------------------------------------ */

struct counter {
    int done, failed, left, refused;
};

static void put_next(struct quoit *q, struct counter *c);

static void on_put(struct quoit *q, const struct quoit_result *r, void *ctx)
{
    struct counter *c = ctx;

    c->done++;
    c->failed += r->code != 0;
    c->refused += quoit_poll(q, 0) == -QUOIT_ERR_BAD_REQUEST &&
                  quoit_get(q, "k", 1, NULL, NULL) == -QUOIT_ERR_BAD_REQUEST;
    put_next(q, c); /* callbacks may queue */
}

static void put_next(struct quoit *q, struct counter *c)
{
    char key[16];
    int n;

    if (c->left == 0)
        return;
    n = snprintf(key, sizeof(key), "async%d", --c->left);
    CHECK(quoit_put_async(q, key, (size_t)n, key, (size_t)n, NULL, on_put, c) == 0);
}

static void many_at_once(const char *endpoint)
{
    struct quoit *q = open_handle(endpoint, false, 64);
    struct counter c = {.left = MANY};
    struct quoit_result r;
    int i;

    for (i = 0; i < 64; i++)
        put_next(q, &c);
    CHECK(quoit_put_async(q, "k", 1, "v", 1, NULL, on_put, &c) == -QUOIT_ERR_FULL);
    CHECK(quoit_pending(q) == 64);
    while (c.done < MANY)
        CHECK(quoit_poll(q, -1) > 0);
    CHECK(c.failed == 0 && c.refused == MANY && quoit_pending(q) == 0);
    CHECK(quoit_poll(q, 0) == 0 && quoit_poll(q, -1) == 0);
    CHECK(quoit_get(q, "async0", 6, NULL, &r) == 0 && r.value_len == 6);
    quoit_free(q);
}

static void in_another_loop(const char *endpoint)
{
    struct quoit *q = open_handle(endpoint, false, 64);
    struct counter c = {.left = 500};
    struct pollfd fd = {.fd = quoit_fd(q), .events = POLLIN};

    CHECK(quoit_wait_ms(q) == -1);
    put_next(q, &c);
    while (c.done < 500) {
        quoit_poll(q, 0);
        if (c.done < 500)
            poll(&fd, 1, quoit_wait_ms(q));
    }
    CHECK(c.failed == 0);
    quoit_free(q);
}

static const struct quoit_options patient = {.timeout_ms = QUOIT_TIMEOUT_MS_MAX};

struct big {
    struct counter counter;
    void *value;
};

static void put_big(struct quoit *q, const struct quoit_result *r, void *ctx)
{
    struct big *b = ctx;

    CHECK(r->code == 0);
    CHECK(quoit_put_async(q, "big", 3, b->value, QUOIT_VALUE_BYTES_MAX, &patient, on_put,
                          &b->counter) == 0);
}

/* A value that does not fit into the socket goes out at the very end of a turn, because a callback
 * queued it: the loop must hear when there is room, and not at the next timer. */
static void writing_in_another_loop(const char *endpoint)
{
    struct quoit *q = open_handle(endpoint, true, 64);
    struct pollfd fd = {.fd = quoit_fd(q), .events = POLLIN};
    struct big b = {.value = calloc(1, QUOIT_VALUE_BYTES_MAX)};
    int wait_ms;

    CHECK(b.value && quoit_ping(q, NULL, NULL) == 0);
    while ((wait_ms = quoit_wait_ms(q)) != -1) { /* timers of the connection, now without use */
        poll(&fd, 1, wait_ms);
        quoit_poll(q, 0);
    }
    CHECK(quoit_ping_async(q, &patient, put_big, &b) == 0);
    while (quoit_poll(q, 0), b.counter.done == 0) {
        wait_ms = quoit_wait_ms(q);
        CHECK(poll(&fd, 1, wait_ms) != 0 || wait_ms < (int)QUOIT_TIMEOUT_MS_MAX / 6);
    }
    CHECK(b.counter.failed == 0);
    quoit_free(q);
    free(b.value);
}

static void count_scan(struct quoit *q, uint32_t partition, int *records)
{
    struct quoit_result r;
    char cursor[1024];
    size_t cursor_len = 0;

    do {
        CHECK(quoit_scan(q, partition, cursor, cursor_len, 1, NULL, &r) == 0);
        CHECK(r.cursor_len <= sizeof(cursor));
        *records += (int)r.n_records;
        cursor_len = r.cursor_len;
        if (cursor_len)
            memcpy(cursor, r.cursor, cursor_len);
    } while (cursor_len);
}

static void scan_everything(const char *endpoint)
{
    struct quoit *q = open_handle(endpoint, false, 64);
    struct quoit_result r;
    uint32_t p;
    int records = 0;

    CHECK(quoit_ring(q, NULL, &r) == 0);
    for (p = 0; p < 1024; p++)
        count_scan(q, p, &records);
    CHECK(records >= MANY);
    CHECK(quoit_scan(q, 1024, NULL, 0, 0, NULL, &r) == -QUOIT_ERR_BAD_REQUEST);
    quoit_free(q);
}

/* ---- failures ---------------------------------------------------------------------------- */

static void on_end(struct quoit *q, const struct quoit_result *r, void *ctx)
{
    (void)q;
    *(int *)ctx = r->code;
}

static void nobody_there(const char *dead)
{
    struct quoit *q = open_handle(dead, true, 64);
    struct quoit_options fast = {.flags = QUOIT_FAIL_FAST}, slow = {.timeout_ms = 300};
    struct quoit_result r;
    int code = 0;

    CHECK(quoit_get(q, "k", 1, &fast, &r) == -QUOIT_ERR_UNREACHABLE);
    CHECK(strstr(r.text, "refused") && r.attempts == 0);
    CHECK(quoit_put(q, "k", 1, "v", 1, &slow, &r) == -QUOIT_ERR_UNREACHABLE);
    CHECK(quoit_get_async(q, "k", 1, NULL, on_end, &code) == 0);
    quoit_free(q); /* tells those who wait */
    CHECK(code == -QUOIT_ERR_CLOSED);
}

static void freed_under_way(const char *endpoint)
{
    struct quoit *q = open_handle(endpoint, true, 64);
    int read_code = 0, write_code = 0;

    CHECK(quoit_ping(q, NULL, NULL) == 0);
    CHECK(quoit_get_async(q, "k", 1, NULL, on_end, &read_code) == 0);
    CHECK(quoit_put_async(q, "k", 1, "v", 1, NULL, on_end, &write_code) == 0);
    quoit_free(q); /* neither had been sent */
    CHECK(read_code == -QUOIT_ERR_CLOSED && write_code == -QUOIT_ERR_CLOSED);
}

/* The connection closes in the pause: the put must not go into it. */
static int put_again(const char *endpoint)
{
    struct quoit *q = open_handle(endpoint, true, 64);
    struct quoit_options fast = {.flags = QUOIT_FAIL_FAST};
    struct quoit_result r;

    CHECK(quoit_put(q, "again", 5, "1", 1, NULL, &r) == 0);
    puts("stored");
    fflush(stdout);
    CHECK(getchar() == '\n');
    quoit_put(q, "again", 5, "2", 1, &fast, &r);
    printf("%s %u %s\n", quoit_error_name(r.code), r.attempts, r.text);
    quoit_free(q);
    return r.code != 0;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    if (!strcmp(argv[1], "again"))
        return put_again(argv[2]);
    blocking_calls(argv[1]);
    sort_keys(argv[1]);
    status(argv[1]);
    wrong_arguments(argv[1]);
    many_at_once(argv[1]);
    in_another_loop(argv[1]);
    writing_in_another_loop(argv[1]);
    scan_everything(argv[1]);
    nobody_there(argv[2]);
    freed_under_way(argv[1]);
    return 0;
}
