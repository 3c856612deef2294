/* client_uv: the waiting of a turn, against a listener that takes connections and says nothing. */
#include "tests/unit/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client/client_uv.h"

#define TURNS_MAX 1000
#define HANG_SECONDS 60u /* then SIGALRM ends the program */

struct test {
    int listener;
    struct session session;
    struct client_uv *edge;
    int done_code;
    unsigned n_done;
};

static void on_done(void *ctx, const struct session_done *done)
{
    struct test *t = ctx;

    t->n_done++;
    t->done_code = done->code;
}

static int setup(void **state)
{
    static struct test test;
    struct session_config config = {
        .requests_max = 4, .lanes = 1, .bytes_max = 1 << 20, .direct = true, .client = "test"};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(to);
    struct test *t = &test;
    char address[32];

    memset(t, 0, sizeof(*t));
    t->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(t->listener >= 0);
    assert_int_equal(bind(t->listener, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(listen(t->listener, 4), 0);
    assert_int_equal(getsockname(t->listener, (struct sockaddr *)&to, &size), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(to.sin_port));
    assert_int_equal(session_init(&t->session, &config), 0);
    assert_true(session_add_endpoint(&t->session, slice_str(address)) >= 0);
    assert_int_equal(client_uv_new(&t->session, on_done, t, &t->edge), 0);
    alarm(HANG_SECONDS);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct test *t = *state;

    alarm(0);
    session_close(&t->session);
    client_uv_free(t->edge);
    session_deinit(&t->session);
    close(t->listener);
    return 0;
}

static void ping(struct test *t, uint32_t timeout_ms)
{
    struct session_request req = {.op = OP_PING, .level = LEVEL_QUORUM, .timeout_ms = timeout_ms};

    client_uv_refresh(t->edge);
    assert_int_equal(session_submit(&t->session, client_uv_now(t->edge), &req), 0);
}

/* The clock goes on while the loop's idea of it stands still. */
static void let_time_pass(uint32_t ms)
{
    struct timespec now, end;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += (long)ms * 1000000;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
}

/* libuv runs due timers first and then waits for the next, which need not exist: such a turn went
 * on until the socket said something, which was never. */
static void a_turn_whose_time_is_up_before_it_waits_ends(void **state)
{
    struct test *t = *state;

    ping(t, 60000);
    for (int i = 0; i < 3; i++)
        client_uv_turn(t->edge, 0); /* the connection stands, a greeting is outstanding */
    let_time_pass(5);
    assert_int_equal(client_uv_turn(t->edge, 2), 0);
}

static void a_silent_node_costs_the_timeout_only(void **state)
{
    struct test *t = *state;

    ping(t, 20);
    for (int i = 0; t->n_done == 0; i++) {
        assert_true(i < TURNS_MAX);
        client_uv_turn(t->edge, 60000);
    }
    assert_true(t->done_code < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_turn_whose_time_is_up_before_it_waits_ends, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_silent_node_costs_the_timeout_only, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
