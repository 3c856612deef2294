/* Framed connections over socket pairs: cutting frames, back-pressure, limits in time. */
#include "tests/unit/test.h"

#include "proto/err.h"
#include "proto/frame.h"
#include "server/edge/conn.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURNS_MAX 20000

struct peer {
    struct conn conn; /* first */
    struct test *test;
};

/* One loop, one connection; the test plays the other end of the socket. */
struct test {
    struct loop loop;
    struct log log;
    struct peer *peer; /* NULL once closed */
    int fd;
    unsigned n_frames;
    size_t n_bytes;
    uint32_t hash;
    int broken, closed_with;
    uint64_t limit, actual;
    uint64_t waited_ms; /* of the last frame */
    bool owe;           /* each frame owes an answer */
    bool echo;
};

static uint32_t hash_of(uint32_t h, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 16777619u;
    return h;
}

static enum conn_verdict on_frame(struct conn *c, struct slice body)
{
    struct test *t = ((struct peer *)c)->test;
    t->n_frames++;
    t->waited_ms = c->waited_ms;
    t->n_bytes += body.len;
    t->hash = hash_of(t->hash, body.data, body.len);
    if (t->owe)
        conn_owe_answer(c);
    if (t->echo && conn_out(c)) {
        uint8_t header[4];
        frame_header(header, (uint32_t)body.len);
        assert_int_equal(buf_append(conn_out(c), header, 4), 0);
        assert_int_equal(buf_append_slice(conn_out(c), body), 0);
        conn_sent(c);
    }
    return CONN_NEXT;
}

static void on_broken(struct conn *c, int error, uint64_t limit, uint64_t actual)
{
    struct test *t = ((struct peer *)c)->test;
    t->broken = error;
    t->limit = limit;
    t->actual = actual;
    assert_int_equal(buf_append(conn_out(c), "bye", 3), 0);
    conn_sent(c);
}

static void on_closed(struct conn *c)
{
    struct test *t = ((struct peer *)c)->test;
    t->closed_with = c->error;
    t->peer = NULL;
    free(c);
}

static const struct conn_handler handler = {.on_frame = on_frame,
                                            .on_broken = on_broken,
                                            .on_closed = on_closed,
                                            .idle_closes = true,
                                            .pauses = true};

static void nothing(struct loop *l)
{
}

static const struct loop_hooks hooks = {nothing, nothing, nothing};

static void begin(struct test *t, uint32_t idle_ms, uint32_t frame_ms, uint32_t stall_ms)
{
    struct loop_limits limits = {idle_ms, frame_ms, stall_ms};
    int fds[2];

    memset(t, 0, sizeof(*t));
    t->hash = 2166136261u;
    log_init(&t->log, LOG_ERROR, 2);
    assert_int_equal(loop_init(&t->loop, 0, &hooks, &limits, &t->log), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    t->fd = fds[0];
    t->peer = calloc(1, sizeof(*t->peer));
    t->peer->test = t;
    assert_int_equal(conn_open(&t->peer->conn, &t->loop, &handler, fds[1], (struct slice){0}), 0);
}

static void end(struct test *t)
{
    close(t->fd);
    loop_close_all(&t->loop);
    loop_run(&t->loop);
    loop_deinit(&t->loop);
    log_deinit(&t->log);
}

static void turn(struct test *t)
{
    uv_run(&t->loop.uv, UV_RUN_NOWAIT);
}

/* Runs the loop until the condition holds. */
#define UNTIL(t, condition)                                                                        \
    do {                                                                                           \
        int turns_ = 0;                                                                            \
        while (!(condition)) {                                                                     \
            assert_true(turns_++ < TURNS_MAX);                                                     \
            uv_run(&(t)->loop.uv, UV_RUN_ONCE);                                                    \
        }                                                                                          \
    } while (0)

/* Writes all of it, letting the loop read in between. */
static void send_all(struct test *t, const void *data, size_t len)
{
    const uint8_t *p = data;
    int turns = 0;
    while (len > 0) {
        ssize_t n = send(t->fd, p, len, MSG_NOSIGNAL);
        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            assert_true(turns++ < TURNS_MAX);
            turn(t);
            continue;
        }
        p += n;
        len -= (size_t)n;
    }
}

/* n frames of `len` random bytes each; returns the hash of all bodies. */
static uint32_t make_frames(struct buf *out, unsigned n, size_t len, struct test_random *r)
{
    uint32_t hash = 2166136261u;
    for (unsigned i = 0; i < n; i++) {
        uint8_t header[4];
        frame_header(header, (uint32_t)len);
        assert_int_equal(buf_append(out, header, 4), 0);
        assert_int_equal(buf_reserve(out, len), 0);
        for (size_t k = 0; k < len; k++)
            out->data[out->len + k] = (uint8_t)test_random_u64(r);
        hash = hash_of(hash, out->data + out->len, len);
        out->len += len;
    }
    return hash;
}

static void frames_of_all_sizes_arrive_whole_however_they_are_cut(void **state)
{
    static const size_t sizes[] = {
        1,      3,       100, 4096, CONN_LARGE_BYTES - 5, CONN_LARGE_BYTES, CONN_LARGE_BYTES + 1,
        300000, 1u << 20};
    static const size_t cuts[] = {1, 2, 3, 5, 4096, 65536, 1u << 20};
    struct test_random r = {.s = 42};

    for (size_t s = 0; s < ARRAY_LEN(sizes); s++)
        for (size_t k = 0; k < ARRAY_LEN(cuts); k++) {
            struct test t;
            struct buf bytes;
            if (cuts[k] < 64 && sizes[s] > 5000)
                continue; /* the same with fewer system calls */
            begin(&t, 60000, 60000, 60000);
            buf_init(&bytes);
            uint32_t hash = make_frames(&bytes, 5, sizes[s], &r);
            for (size_t at = 0; at < bytes.len; at += cuts[k]) {
                size_t n = bytes.len - at < cuts[k] ? bytes.len - at : cuts[k];
                send_all(&t, bytes.data + at, n);
                turn(&t);
            }
            UNTIL(&t, t.n_frames == 5);
            assert_int_equal(t.n_bytes, 5 * sizes[s]);
            assert_int_equal(t.hash, hash);
            assert_int_equal(t.peer->conn.in.cap, 0); /* idle connections own no buffer */
            assert_null(t.peer->conn.large);
            assert_int_equal(t.loop.large_bytes, 0);
            buf_deinit(&bytes);
            end(&t);
        }
}

static void an_oversized_frame_is_told_then_the_connection_ends(void **state)
{
    struct test t;
    uint8_t header[4];
    char back[8];

    begin(&t, 60000, 60000, 60000);
    frame_header(header, LIMIT_FRAME_BYTES + 1);
    send_all(&t, header, 4);
    UNTIL(&t, t.broken);
    assert_int_equal(t.broken, ERR_FRAME_TOO_LARGE);
    assert_int_equal(t.limit, LIMIT_FRAME_BYTES);
    assert_int_equal(t.actual, LIMIT_FRAME_BYTES + 1);
    turn(&t);
    assert_int_equal(recv(t.fd, back, sizeof(back), 0), 3); /* the last word arrives */
    assert_int_equal(recv(t.fd, back, sizeof(back), 0), 0); /* then the end of the stream */
    send_all(&t, "more rubbish", 12);                       /* thrown away */
    turn(&t);
    assert_int_equal(t.n_frames, 0);
    shutdown(t.fd, SHUT_WR);
    UNTIL(&t, !t.peer);
    end(&t);
}

static void an_empty_frame_breaks_the_stream(void **state)
{
    struct test t;
    begin(&t, 60000, 60000, 60000);
    send_all(&t, "\0\0\0\0", 4);
    UNTIL(&t, t.broken);
    assert_int_equal(t.broken, ERR_BAD_REQUEST);
    end(&t);
}

static void a_client_that_lingers_is_closed_in_the_end(void **state)
{
    struct test t;
    begin(&t, 60000, 60000, 200);
    send_all(&t, "\0\0\0\0", 4);
    UNTIL(&t, t.broken);
    UNTIL(&t, !t.peer); /* it never closes its side */
    end(&t);
}

static void a_frame_that_dribbles_is_ended(void **state)
{
    struct test t;
    uint8_t header[4];

    begin(&t, 60000, 100, 60000);
    frame_header(header, 1000);
    send_all(&t, header, 4);
    uint64_t next_ms = 0;
    int turns = 0;
    while (!t.broken) { /* a byte every now and then does not help */
        assert_true(turns++ < TURNS_MAX);
        if (uv_now(&t.loop.uv) >= next_ms) {
            send_all(&t, "x", 1);
            next_ms = uv_now(&t.loop.uv) + 20;
        }
        uv_run(&t.loop.uv, UV_RUN_ONCE);
    }
    assert_int_equal(t.broken, ERR_SLOW);
    assert_int_equal(t.n_frames, 0);
    end(&t);
}

static void an_idle_connection_is_closed(void **state)
{
    struct test t;
    begin(&t, 100, 60000, 60000);
    UNTIL(&t, !t.peer);
    assert_int_equal(t.closed_with, 0);
    end(&t);
}

static void one_that_waits_for_an_answer_is_not_idle(void **state)
{
    struct test t;
    struct buf bytes;
    struct test_random r = {.s = 1};

    begin(&t, 60, 60000, 60000);
    t.owe = true;
    buf_init(&bytes);
    make_frames(&bytes, 1, 10, &r);
    send_all(&t, bytes.data, bytes.len);
    UNTIL(&t, t.n_frames == 1);
    uint64_t until_ms = uv_now(&t.loop.uv) + 300;
    UNTIL(&t, uv_now(&t.loop.uv) >= until_ms);
    assert_non_null(t.peer);
    conn_answered(&t.peer->conn, 0);
    UNTIL(&t, !t.peer);
    buf_deinit(&bytes);
    end(&t);
}

static void who_does_not_read_is_not_read_either(void **state)
{
    struct test t;
    struct buf bytes;
    struct test_random r = {.s = 7};
    size_t sent = 0, got = 0, total;
    static uint8_t back[65536];

    begin(&t, 60000, 60000, 60000);
    t.echo = true;
    buf_init(&bytes);
    make_frames(&bytes, 1024, 16384, &r); /* 16 MiB */
    total = bytes.len;
    for (int quiet = 0; quiet < 50;) { /* send until nothing moves any more */
        ssize_t n = send(t.fd, bytes.data + sent, total - sent, MSG_NOSIGNAL);
        quiet = n > 0 ? 0 : quiet + 1;
        sent += n > 0 ? (size_t)n : 0;
        turn(&t);
        if (sent == total)
            break;
    }
    assert_true(sent < total); /* it was held */
    assert_true(t.peer->conn.holds & HOLD_OUT);
    assert_true(conn_unsent(&t.peer->conn) < CONN_OUT_PAUSE_BYTES + 2 * LOOP_RECEIVE_BYTES);
    uint32_t hash = 2166136261u;
    for (int turns = 0; got < total;) { /* now read: everything comes, unchanged */
        assert_true(turns++ < TURNS_MAX);
        ssize_t n = recv(t.fd, back, sizeof(back), 0);
        if (n > 0) {
            hash = hash_of(hash, back, (size_t)n);
            got += (size_t)n;
            turns = 0;
        }
        n = sent < total ? send(t.fd, bytes.data + sent, total - sent, MSG_NOSIGNAL) : 0;
        sent += n > 0 ? (size_t)n : 0;
        turn(&t);
    }
    assert_int_equal(hash, hash_of(2166136261u, bytes.data, total));
    assert_int_equal(t.n_frames, 1024);
    buf_deinit(&bytes);
    end(&t);
}

/* Frames that came before a hold are older than those that come after it. */
static void what_lay_here_under_a_hold_has_waited(void **state)
{
    struct test t;
    struct buf bytes;
    struct test_random r = {.s = 9};

    begin(&t, 60000, 60000, 60000);
    t.owe = true;
    buf_init(&bytes);
    make_frames(&bytes, CONN_ANSWERS_MAX + 2, 8, &r);
    for (size_t sent = 0; sent < bytes.len;) {
        ssize_t n = send(t.fd, bytes.data + sent, bytes.len - sent, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        turn(&t);
    }
    assert_int_equal(t.n_frames, CONN_ANSWERS_MAX); /* the others lie here */
    assert_true(t.peer->conn.in.len > 0);
    assert_int_equal(t.waited_ms, 0);
    t.peer->conn.active_ms -= 500; /* half a second ago */
    while (t.peer->conn.n_answers > 0)
        conn_answered(&t.peer->conn, 0);
    for (int turns = 0; t.n_frames < CONN_ANSWERS_MAX + 2; turn(&t))
        assert_true(turns++ < TURNS_MAX);
    assert_in_range(t.waited_ms, 500, 60000);
    assert_int_equal(t.peer->conn.waited_ms, 0);
    buf_deinit(&bytes);
    end(&t);
}

static void who_never_reads_is_closed(void **state)
{
    struct test t;
    struct buf bytes;
    struct test_random r = {.s = 8};
    size_t sent = 0;

    begin(&t, 60000, 60000, 150);
    t.echo = true;
    buf_init(&bytes);
    make_frames(&bytes, 200, 16384, &r);
    for (int turns = 0; t.peer; turns++) {
        assert_true(turns < TURNS_MAX);
        if (sent < bytes.len) {
            ssize_t n = send(t.fd, bytes.data + sent, bytes.len - sent, MSG_NOSIGNAL);
            sent += n > 0 ? (size_t)n : 0;
        }
        uv_run(&t.loop.uv, UV_RUN_ONCE);
    }
    assert_int_equal(t.closed_with, -ERR_SLOW);
    buf_deinit(&bytes);
    end(&t);
}

static void too_many_unanswered_requests_stop_the_reading(void **state)
{
    struct test t;
    struct buf bytes;
    struct test_random r = {.s = 9};

    begin(&t, 60000, 60000, 60000);
    t.owe = true;
    buf_init(&bytes);
    uint32_t hash = make_frames(&bytes, CONN_ANSWERS_MAX + 100, 8, &r);
    send_all(&t, bytes.data, bytes.len);
    UNTIL(&t, t.n_frames == CONN_ANSWERS_MAX);
    for (int i = 0; i < 20; i++)
        turn(&t);
    assert_int_equal(t.n_frames, CONN_ANSWERS_MAX);
    while (t.peer->conn.n_answers > CONN_ANSWERS_RESUME)
        conn_answered(&t.peer->conn, 0);
    UNTIL(&t, t.n_frames == CONN_ANSWERS_MAX + 100);
    assert_int_equal(t.hash, hash);
    buf_deinit(&bytes);
    end(&t);
}

static void large_answers_owed_stop_the_reading(void **state)
{
    const size_t size = 4u << 20; /* four of them are what may be owed */
    struct test t;
    struct buf bytes;
    struct test_random r = {.s = 11};

    begin(&t, 60000, 60000, 60000);
    t.owe = true;
    buf_init(&bytes);
    make_frames(&bytes, 200, 8, &r);
    send_all(&t, bytes.data, 12);
    UNTIL(&t, t.n_frames == 1);
    conn_answered(&t.peer->conn, size);
    send_all(&t, bytes.data + 12, bytes.len - 12);
    UNTIL(&t, t.n_frames == 6);
    for (int i = 0; i < 20; i++)
        turn(&t);
    assert_int_equal(t.n_frames, 6); /* the one that passes the bound is the last */
    while (t.n_frames < 100) {
        assert_true(t.peer->conn.n_answers <= 5);
        conn_answered(&t.peer->conn, size);
        turn(&t);
    }
    while (t.n_frames < 200) { /* small answers, and the large ones are forgotten */
        conn_answered(&t.peer->conn, 10);
        turn(&t);
    }
    assert_true(t.peer->conn.n_answers > 20);
    buf_deinit(&bytes);
    end(&t);
}

static void answers_with_a_payload_are_refused_above_the_bounds(void **state)
{
    static uint8_t chunk[1u << 20];
    struct test t;

    begin(&t, 60000, 60000, 60000);
    struct conn *c = &t.peer->conn;
    while (conn_takes_answer(c, sizeof(chunk))) {
        assert_int_equal(buf_append(conn_out(c), chunk, sizeof(chunk)), 0);
        conn_sent(c);
    }
    assert_non_null(conn_out(c)); /* not closed */
    assert_int_equal(conn_unsent(c), CONN_OUT_REFUSE_BYTES + sizeof(chunk));
    assert_true(conn_takes_answer(c, CONN_ANSWER_SMALL_BYTES));
    buf_consume(conn_out(c), c->out.len);
    conn_sent(c);
    assert_true(conn_takes_answer(c, sizeof(chunk)));
    t.loop.unsent_bytes = LOOP_UNSENT_BYTES_MAX + 1; /* of others */
    assert_false(conn_takes_answer(c, sizeof(chunk)));
    assert_true(conn_takes_answer(c, CONN_ANSWER_SMALL_BYTES));
    t.loop.unsent_bytes = 0;
    end(&t);
}

static void a_half_closed_client_still_gets_its_answers(void **state)
{
    struct test t;
    struct buf bytes;
    struct test_random r = {.s = 10};
    char back[64];

    begin(&t, 60000, 60000, 60000);
    t.owe = true;
    buf_init(&bytes);
    make_frames(&bytes, 1, 10, &r);
    send_all(&t, bytes.data, bytes.len);
    shutdown(t.fd, SHUT_WR);
    UNTIL(&t, t.peer->conn.eof);
    assert_non_null(conn_out(&t.peer->conn));
    assert_int_equal(buf_append(conn_out(&t.peer->conn), "answer", 6), 0);
    conn_answered(&t.peer->conn, 0);
    conn_sent(&t.peer->conn);
    UNTIL(&t, !t.peer);
    assert_int_equal(recv(t.fd, back, sizeof(back), 0), 6);
    buf_deinit(&bytes);
    end(&t);
}

static void an_id_of_a_closed_connection_finds_nothing(void **state)
{
    struct test t;
    begin(&t, 60000, 60000, 60000);
    uint64_t id = t.peer->conn.id;
    assert_ptr_equal(loop_find_conn(&t.loop, id), &t.peer->conn);
    conn_close(&t.peer->conn, 0);
    UNTIL(&t, !t.peer);
    assert_null(loop_find_conn(&t.loop, id));
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    t.peer = calloc(1, sizeof(*t.peer));
    t.peer->test = &t;
    assert_int_equal(conn_open(&t.peer->conn, &t.loop, &handler, fds[1], (struct slice){0}), 0);
    assert_true(t.peer->conn.id != id); /* the place is used again, the id is not */
    assert_null(loop_find_conn(&t.loop, id));
    assert_null(loop_find_conn(&t.loop, UINT64_MAX));
    close(fds[0]);
    end(&t);
}

/* ---- waking ---------------------------------------------------------------------------------- */

struct waker {
    struct loop *loop;
    atomic_uint n;
};

static unsigned n_woken;

static void count_woken(struct loop *l)
{
    n_woken++;
}

static void *wake_many(void *arg)
{
    struct waker *w = arg;
    for (int i = 0; i < 10000; i++) {
        atomic_fetch_add(&w->n, 1);
        loop_wake(w->loop);
    }
    return NULL;
}

static void wakes_of_another_thread_arrive_and_coalesce(void **state)
{
    static const struct loop_hooks counting = {count_woken, nothing, nothing};
    struct loop_limits limits = {60000, 60000, 60000};
    struct waker w;
    struct loop l;
    struct log log;
    pthread_t thread;

    n_woken = 0;
    log_init(&log, LOG_ERROR, 2);
    assert_int_equal(loop_init(&l, 0, &counting, &limits, &log), 0);
    w.loop = &l;
    atomic_init(&w.n, 0);
    assert_int_equal(pthread_create(&thread, NULL, wake_many, &w), 0);
    while (atomic_load(&w.n) < 10000)
        uv_run(&l.uv, UV_RUN_NOWAIT);
    pthread_join(thread, NULL);
    unsigned before = n_woken;
    loop_wake(&l); /* after all of it: this one must be seen */
    uv_run(&l.uv, UV_RUN_ONCE);
    assert_true(n_woken > before);
    assert_true(n_woken <= 10001);
    loop_close_all(&l);
    loop_run(&l);
    loop_deinit(&l);
    log_deinit(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_of_all_sizes_arrive_whole_however_they_are_cut),
        cmocka_unit_test(an_oversized_frame_is_told_then_the_connection_ends),
        cmocka_unit_test(an_empty_frame_breaks_the_stream),
        cmocka_unit_test(a_client_that_lingers_is_closed_in_the_end),
        cmocka_unit_test(a_frame_that_dribbles_is_ended),
        cmocka_unit_test(an_idle_connection_is_closed),
        cmocka_unit_test(one_that_waits_for_an_answer_is_not_idle),
        cmocka_unit_test(who_does_not_read_is_not_read_either),
        cmocka_unit_test(what_lay_here_under_a_hold_has_waited),
        cmocka_unit_test(who_never_reads_is_closed),
        cmocka_unit_test(too_many_unanswered_requests_stop_the_reading),
        cmocka_unit_test(large_answers_owed_stop_the_reading),
        cmocka_unit_test(answers_with_a_payload_are_refused_above_the_bounds),
        cmocka_unit_test(a_half_closed_client_still_gets_its_answers),
        cmocka_unit_test(an_id_of_a_closed_connection_finds_nothing),
        cmocka_unit_test(wakes_of_another_thread_arrive_and_coalesce),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
