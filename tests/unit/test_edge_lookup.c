/* Looking names up: the answer reaches the loop, and a resolver that never answers keeps nobody. */
#include "tests/unit/test.h"

#include "server/edge/lookup.h"
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool dead; /* the resolver does not answer while this is set */
static int n_inside;

/* Instead of the system's. */
int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                struct addrinfo **ret)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    pthread_mutex_lock(&lock);
    n_inside++;
    pthread_cond_broadcast(&changed);
    while (dead)
        pthread_cond_wait(&changed, &lock);
    n_inside--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return strcmp(host, "known") == 0 ? real("127.0.0.1", port, hints, ret) : EAI_NONAME;
}

struct heard {
    uint32_t n, a, b;
    uint16_t port; /* 0: no such host */
};

static void on_done(void *ctx, uint32_t a, uint32_t b, const struct sockaddr *to)
{
    uint16_t port = to ? ntohs(((const struct sockaddr_in *)(const void *)to)->sin_port) : 0;
    struct heard *h = ctx;

    *h = (struct heard){.n = h->n + 1, .a = a, .b = b, .port = port};
}

static int start(uv_loop_t *uv, const char *text, struct heard *h)
{
    struct address address;

    assert_int_equal(address_parse(text, &address), 0);
    return lookup_start(uv, &address, 0, on_done, h, 7, 8);
}

static void names_are_answered_through_the_loop(void **state)
{
    struct heard known = {0}, unknown = {0}, number = {0};
    uv_loop_t uv;

    assert_int_equal(uv_loop_init(&uv), 0);
    assert_int_equal(start(&uv, "known:71", &known), 0);
    assert_int_equal(start(&uv, "nowhere:72", &unknown), 0);
    assert_int_equal(start(&uv, "127.0.0.1:73", &number), 0);
    assert_int_equal(number.port, 73); /* at once */
    assert_int_equal(known.n + unknown.n, 0);
    uv_run(&uv, UV_RUN_DEFAULT);
    assert_int_equal(known.n, 1);
    assert_int_equal(known.port, 71);
    assert_int_equal(known.a, 7);
    assert_int_equal(known.b, 8);
    assert_int_equal(unknown.n, 1);
    assert_int_equal(unknown.port, 0);
    assert_int_equal(uv_loop_close(&uv), 0);
}

static void wait_inside(int n)
{
    pthread_mutex_lock(&lock);
    while (n_inside != n)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void set_dead(bool value)
{
    pthread_mutex_lock(&lock);
    dead = value;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void a_dead_resolver_holds_no_loop(void **state)
{
    struct heard h = {0};
    uv_loop_t uv;

    alarm(20); /* a loop that waits for the resolver waits for ever */
    set_dead(true);
    assert_int_equal(uv_loop_init(&uv), 0);
    for (unsigned i = 0; i < LOOKUPS_MAX; i++)
        assert_int_equal(start(&uv, "known:71", &h), 0);
    assert_true(start(&uv, "known:71", &h) < 0); /* the limit */
    wait_inside((int)LOOKUPS_MAX);
    lookup_cancel(&uv);
    uv_run(&uv, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&uv), 0);
    set_dead(false); /* the late answers find nobody */
    wait_inside(0);
    assert_int_equal(h.n, 0);
    alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_answered_through_the_loop),
        cmocka_unit_test(a_dead_resolver_holds_no_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
