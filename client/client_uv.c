/* client_uv: see client_uv.h.
 *
 * A link is one attempt at a connection, with its socket and buffers. It is freed in the close
 * callback of its handle and nowhere else; `links` forgets it earlier, so that a new link can take
 * the place at once. Bytes to send gather in `out` and go with one uv_try_write at the end of a
 * turn; only what the kernel does not take is handed to uv_write, and until that is done, `out`
 * gathers further, up to a mark above which the session holds requests back.
 *
 * A turn that would send after a pause looks at the sockets first: the end of a connection that
 * closed meanwhile must be seen before a write goes into it, because afterwards nobody can say
 * what became of the write. What is only queued moves on to another connection freely.
 *
 * libuv tells the kernel of a new interest (a connection being made, a rest to be written) only
 * inside uv_run. Until then `unseen` is set, and a loop of the caller's own must not sleep on the
 * descriptor: client_uv_pending.
 *
 * A name may have several addresses: they are tried in the resolver's order with a new handle each.
 */
#include "client/client_uv.h"

#include <assert.h>
#include <stdlib.h>
#include <uv.h>

#include "client/address.h"
#include "proto/frame.h"

#define READ_BYTES_FIRST (16u << 10) /* of a connection's read buffer */
#define READ_BYTES_KEEP (256u << 10) /* a larger one is given back when it is empty */
#define OUT_BYTES_HIGH (256u << 10)  /* above it the session holds requests back */
#define ACTIONS_PER_TURN 16384u      /* then the sockets get their turn */
#define PAUSE_NS 1000000u            /* sockets not looked at for longer: look before sending */
#define LOOKS_MAX 4                  /* last answers, then the end of the stream */

struct link {
    uv_tcp_t tcp; /* first: a handle is its link */
    struct client_uv *edge;
    uint32_t conn;
    bool initialized; /* the handle must be closed before the link is freed */
    bool closing, resolving, connected, writing, blocked;
    const char *broken; /* reason, to be reported between two runs */
    struct link *next_ready, *next_dirty;
    bool in_ready, in_dirty;
    struct buf in;
    size_t in_used, in_want;
    struct buf out, sent;
    uv_connect_t connect;
    uv_write_t write;
    uv_getaddrinfo_t resolve;
    struct addrinfo *addresses, *address;
    uint16_t port;
};

struct client_uv {
    uv_loop_t loop;
    uv_timer_t timer;
    struct session *session;
    client_uv_done done;
    void *ctx;
    struct link **links; /* by number of connection */
    uint32_t n_links;
    struct link *ready; /* something was read, or it broke */
    struct link *dirty; /* something to write */
    uint64_t armed_ms;  /* the timer; 0: not armed */
    uint64_t looked_ns; /* when the sockets were looked at last */
    bool unseen;        /* the kernel does not know yet what we wait for */
    struct arena arena;
    int n_done;
};

/* ---- links ------------------------------------------------------------------------------- */

static void mark_ready(struct link *l)
{
    if (l->in_ready)
        return;
    l->in_ready = true;
    l->next_ready = l->edge->ready;
    l->edge->ready = l;
}

static void mark_dirty(struct link *l)
{
    if (l->in_dirty)
        return;
    l->in_dirty = true;
    l->next_dirty = l->edge->dirty;
    l->edge->dirty = l;
}

static void mark_broken(struct link *l, const char *reason)
{
    if (l->closing)
        return;
    if (!l->broken)
        l->broken = reason;
    mark_ready(l);
}

static void link_unlist(struct link *l)
{
    struct link **at;

    for (at = &l->edge->ready; *at && l->in_ready; at = &(*at)->next_ready) {
        if (*at == l) {
            *at = l->next_ready;
            break;
        }
    }
    for (at = &l->edge->dirty; *at && l->in_dirty; at = &(*at)->next_dirty) {
        if (*at == l) {
            *at = l->next_dirty;
            break;
        }
    }
    l->in_ready = l->in_dirty = false;
}

static void link_free(struct link *l)
{
    buf_deinit(&l->in);
    buf_deinit(&l->out);
    buf_deinit(&l->sent);
    if (l->addresses)
        uv_freeaddrinfo(l->addresses);
    free(l);
}

static void on_closed(uv_handle_t *handle)
{
    struct link *l = (struct link *)handle;

    l->initialized = false;
    if (!l->resolving)
        link_free(l);
}

/* Forgets the link; its memory goes when the last callback is through. */
static void link_close(struct link *l)
{
    if (l->closing)
        return;
    l->closing = true;
    link_unlist(l);
    if (l->edge->links[l->conn] == l)
        l->edge->links[l->conn] = NULL;
    if (l->resolving)
        uv_cancel((uv_req_t *)&l->resolve);
    if (l->initialized)
        uv_close((uv_handle_t *)&l->tcp, on_closed);
    else if (!l->resolving)
        link_free(l);
}

/* ---- reading ----------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    struct link *l = (struct link *)handle;
    size_t want = l->in_want > l->in.len ? l->in_want - l->in.len : 0;
    size_t room = l->in.cap - l->in.len;

    (void)suggested;
    if (room < want || room < READ_BYTES_FIRST / 4) {
        /* a buffer read to its end last time was too small */
        if (want < READ_BYTES_FIRST)
            want = READ_BYTES_FIRST;
        buf_reserve(&l->in, want);
        room = l->in.cap - l->in.len;
    }
    *ret = uv_buf_init((char *)l->in.data + l->in.len, (unsigned)room);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct link *l = (struct link *)stream;

    (void)buf;
    if (n > 0) {
        l->in.len += (size_t)n;
        mark_ready(l);
    } else if (n == UV_EOF) {
        mark_broken(l, "the node closed the connection");
    } else if (n < 0) {
        mark_broken(l, n == UV_ENOBUFS ? "out of memory" : uv_strerror((int)n));
    }
}

static int answer(struct link *l, struct slice body)
{
    struct client_uv *e = l->edge;
    struct wire_response res;
    struct session_done done;
    int r;

    /* a ring unpacks into far more than its frame */
    arena_reset(&e->arena, WIRE_ARENA_BUDGET(body.len) + WIRE_ARENA_BUDGET_RING);
    r = wire_response_unpack(body, &e->arena, &res);
    if (r == 0)
        r = session_answer(e->session, uv_now(&e->loop), l->conn, &res, &done);
    if (r == 1) {
        e->n_done++;
        e->done(e->ctx, &done);
    }
    return r;
}

static void drain(struct link *l)
{
    struct slice body;
    size_t used;
    int r = 0;

    session_received(l->edge->session, uv_now(&l->edge->loop), l->conn);
    while (r >= 0 && !l->closing) {
        r = frame_next(slice_of(l->in.data + l->in_used, l->in.len - l->in_used), &body, &used,
                       &l->in_want);
        if (r <= 0)
            break;
        l->in_used += used;
        r = answer(l, body);
    }
    if (r < 0) {
        mark_broken(l, "what answers there is no quoit node");
        return;
    }
    if (l->in_used < l->in.len) {
        buf_consume(&l->in, l->in_used);
    } else {
        l->in.len = 0;
        if (l->in.cap > READ_BYTES_KEEP)
            buf_deinit(&l->in);
    }
    l->in_used = 0;
}

/* ---- writing ----------------------------------------------------------------------------- */

static void set_blocked(struct link *l)
{
    bool blocked = l->out.len + l->sent.len >= OUT_BYTES_HIGH;

    if (blocked != l->blocked) {
        l->blocked = blocked;
        session_block(l->edge->session, l->conn, blocked);
    }
}

static void on_written(uv_write_t *req, int status)
{
    struct link *l = req->data;

    l->writing = false;
    l->sent.len = 0;
    if (l->closing)
        return;
    if (status < 0) {
        mark_broken(l, uv_strerror(status));
        return;
    }
    mark_dirty(l);
}

static void write_rest(struct link *l, size_t done)
{
    struct buf swap = l->sent;
    uv_buf_t buf;
    int r;

    l->sent = l->out;
    l->out = swap;
    l->out.len = 0;
    buf = uv_buf_init((char *)l->sent.data + done, (unsigned)(l->sent.len - done));
    l->write.data = l;
    l->writing = true;
    l->edge->unseen = true;
    r = uv_write(&l->write, (uv_stream_t *)&l->tcp, &buf, 1, on_written);
    if (r < 0) {
        l->writing = false;
        mark_broken(l, uv_strerror(r));
    }
}

static void flush(struct link *l)
{
    uv_buf_t buf;
    int r;

    if (l->closing || l->broken || !l->connected || l->writing)
        return;
    if (l->out.len > 0) {
        buf = uv_buf_init((char *)l->out.data, (unsigned)l->out.len);
        r = uv_try_write((uv_stream_t *)&l->tcp, &buf, 1);
        if (r < 0 && r != UV_EAGAIN) {
            mark_broken(l, uv_strerror(r));
            return;
        }
        if (r == (int)l->out.len) {
            l->out.len = 0;
            if (l->out.cap > 2 * OUT_BYTES_HIGH)
                buf_deinit(&l->out);
        } else {
            write_rest(l, r > 0 ? (size_t)r : 0);
        }
    }
    set_blocked(l);
}

static void flush_all(struct client_uv *e)
{
    struct link *l;

    while ((l = e->dirty)) {
        e->dirty = l->next_dirty;
        l->in_dirty = false;
        flush(l);
    }
}

/* ---- connecting -------------------------------------------------------------------------- */

static void connect_next(struct link *l);

static void on_retry_closed(uv_handle_t *handle)
{
    struct link *l = (struct link *)handle;

    l->initialized = false;
    if (l->closing)
        link_free(l);
    else
        connect_next(l);
}

static void on_connect(uv_connect_t *req, int status)
{
    struct link *l = req->data;

    if (l->closing || status == UV_ECANCELED)
        return;
    if (status < 0 && l->address && l->address->ai_next) {
        l->address = l->address->ai_next;
        uv_close((uv_handle_t *)&l->tcp, on_retry_closed);
        return;
    }
    if (status == 0) {
        l->connected = true;
        l->edge->unseen = true;
        uv_tcp_nodelay(&l->tcp, 1);
        status = uv_read_start((uv_stream_t *)&l->tcp, on_alloc, on_read);
    }
    if (status == 0)
        status = session_hello(l->edge->session, l->conn, &l->out) < 0 ? UV_ENOMEM : 0;
    if (status < 0)
        mark_broken(l, uv_strerror(status));
    else
        mark_dirty(l);
}

static int connect_to(struct link *l, const struct sockaddr *address)
{
    int r = uv_tcp_init(&l->edge->loop, &l->tcp);

    if (r < 0)
        return r;
    l->initialized = true;
    l->connect.data = l;
    l->edge->unseen = true;
    return uv_tcp_connect(&l->connect, &l->tcp, address, on_connect);
}

static void connect_next(struct link *l)
{
    int r = connect_to(l, l->address->ai_addr);

    if (r < 0)
        mark_broken(l, uv_strerror(r));
}

static void set_port(struct addrinfo *list, uint16_t port)
{
    struct addrinfo *a;

    for (a = list; a; a = a->ai_next) {
        if (a->ai_family == AF_INET)
            ((struct sockaddr_in *)(void *)a->ai_addr)->sin_port = htons(port);
        else if (a->ai_family == AF_INET6)
            ((struct sockaddr_in6 *)(void *)a->ai_addr)->sin6_port = htons(port);
    }
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct link *l = req->data;

    l->resolving = false;
    l->addresses = list;
    if (l->closing) {
        if (!l->initialized)
            link_free(l);
        return;
    }
    if (status < 0) {
        mark_broken(l, uv_strerror(status));
        return;
    }
    set_port(list, l->port);
    l->address = list;
    connect_next(l);
}

static int resolve(struct link *l, const char *host)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int r;

    l->resolve.data = l;
    l->edge->unseen = true;
    r = uv_getaddrinfo(&l->edge->loop, &l->resolve, on_resolved, host, NULL, &hints);
    l->resolving = r == 0;
    return r;
}

static int link_connect(struct link *l, const char *text)
{
    struct sockaddr_in6 v6;
    struct sockaddr_in v4;
    struct address a;

    if (address_parse(text, strlen(text), QUOIT_DEFAULT_PORT, &a) < 0)
        return UV_EINVAL;
    l->port = a.port;
    if (uv_ip4_addr(a.host, a.port, &v4) == 0)
        return connect_to(l, (struct sockaddr *)&v4);
    if (uv_ip6_addr(a.host, a.port, &v6) == 0)
        return connect_to(l, (struct sockaddr *)&v6);
    return resolve(l, a.host);
}

static int links_grow(struct client_uv *e, uint32_t conn)
{
    uint32_t n = e->session->pool.n_targets * e->session->pool.lanes;
    struct link **grown;

    if (conn < e->n_links)
        return 0;
    grown = realloc(e->links, n * sizeof(struct link *));
    if (!grown)
        return -ERR_NO_MEMORY;
    memset(grown + e->n_links, 0, (n - e->n_links) * sizeof(struct link *));
    e->links = grown;
    e->n_links = n;
    return 0;
}

static void start(struct client_uv *e, uint32_t conn, const char *address)
{
    struct link *l = links_grow(e, conn) < 0 ? NULL : calloc(1, sizeof(*l));
    int r;

    if (!l) {
        session_lost(e->session, uv_now(&e->loop), conn, "out of memory");
        return;
    }
    assert(!e->links[conn]);
    l->edge = e;
    l->conn = conn;
    e->links[conn] = l;
    r = link_connect(l, address);
    if (r < 0)
        mark_broken(l, uv_strerror(r));
}

/* ---- a turn ------------------------------------------------------------------------------ */

static void send_one(struct client_uv *e, const struct session_action *a)
{
    struct link *l = e->links[a->conn];

    assert(l && l->connected);
    if (session_pack(e->session, uv_now(&e->loop), a->slot, &l->out) < 0)
        return;
    mark_dirty(l);
    if (l->out.len >= OUT_BYTES_HIGH)
        set_blocked(l);
}

static void act(struct client_uv *e)
{
    struct session_action a;
    uint32_t n;

    for (n = 0; n < ACTIONS_PER_TURN && session_next(e->session, uv_now(&e->loop), &a); n++) {
        switch (a.type) {
        case SESSION_CONNECT:
            start(e, a.conn, a.address);
            break;
        case SESSION_CLOSE:
            if (a.conn < e->n_links && e->links[a.conn])
                link_close(e->links[a.conn]);
            break;
        case SESSION_SEND:
            send_one(e, &a);
            break;
        case SESSION_DONE:
            e->n_done++;
            e->done(e->ctx, &a.done);
            break;
        }
    }
    flush_all(e);
}

/* What the callbacks of libuv left behind. */
static void collect(struct client_uv *e)
{
    struct link *l;
    const char *reason;
    uint32_t conn;

    while ((l = e->ready)) {
        e->ready = l->next_ready;
        l->in_ready = false;
        if (l->in.len > l->in_used)
            drain(l); /* answers first: they may have come with the end of the stream */
        if (l->closing || !l->broken)
            continue;
        reason = l->broken;
        conn = l->conn;
        link_close(l);
        session_lost(e->session, uv_now(&e->loop), conn, reason);
    }
}

/* A run that fires the timer must not wait afterwards: libuv runs what is due first, and would then
 * wait for the next timer, which need not exist. */
static void on_timer(uv_timer_t *timer)
{
    ((struct client_uv *)timer->data)->armed_ms = 0;
    uv_stop(timer->loop);
}

/* The timer goes off at `at_ms` or earlier: an early one costs a turn, moving it costs every turn.
 */
static void arm(struct client_uv *e, uint64_t at_ms)
{
    uint64_t now = uv_now(&e->loop);

    if (e->armed_ms && e->armed_ms <= at_ms)
        return;
    e->armed_ms = at_ms;
    uv_timer_start(&e->timer, on_timer, at_ms > now ? at_ms - now : 0, 0);
}

static void run(struct client_uv *e, uv_run_mode mode)
{
    e->unseen = false;
    uv_run(&e->loop, mode);
    e->looked_ns = uv_hrtime();
}

/* What came in the pause, before anything is sent: answers, and ends of connections. */
static void look(struct client_uv *e)
{
    int n;

    if (uv_hrtime() - e->looked_ns < PAUSE_NS || !session_has_to_send(e->session))
        return;
    for (n = 0; n < LOOKS_MAX; n++) {
        run(e, UV_RUN_NOWAIT);
        if (!e->ready)
            break;
        collect(e);
    }
}

int client_uv_turn(struct client_uv *e, uint64_t timeout_ms)
{
    uint64_t now, deadline;

    e->n_done = 0;
    look(e);
    act(e);
    now = uv_now(&e->loop);
    deadline = session_deadline(e->session);
    if (e->n_done > 0 || e->ready || timeout_ms == 0 || deadline <= now) {
        run(e, UV_RUN_NOWAIT);
    } else {
        if (deadline > now + timeout_ms)
            deadline = now + timeout_ms;
        arm(e, deadline);
        run(e, UV_RUN_ONCE);
    }
    collect(e);
    session_tick(e->session, uv_now(&e->loop));
    act(e);
    return e->n_done;
}

int client_uv_flush(struct client_uv *e)
{
    e->n_done = 0;
    act(e);
    return e->n_done;
}

bool client_uv_pending(const struct client_uv *e)
{
    return e->unseen || e->ready;
}

uint64_t client_uv_now(const struct client_uv *e)
{
    return uv_now(&e->loop);
}

void client_uv_refresh(struct client_uv *e)
{
    uv_update_time(&e->loop);
}

int client_uv_fd(const struct client_uv *e)
{
    return uv_backend_fd(&e->loop);
}

uint64_t client_uv_seed(void)
{
    uint64_t seed;

    if (uv_random(NULL, NULL, &seed, sizeof(seed), 0, NULL) < 0)
        seed = uv_hrtime();
    return seed;
}

/* ---- life -------------------------------------------------------------------------------- */

int client_uv_new(struct session *session, client_uv_done done, void *ctx, struct client_uv **ret)
{
    struct client_uv *e = calloc(1, sizeof(*e));

    if (!e)
        return -ERR_NO_MEMORY;
    e->session = session;
    e->done = done;
    e->ctx = ctx;
    arena_init(&e->arena, WIRE_ARENA_BUDGET_RING);
    if (uv_loop_init(&e->loop) < 0) {
        arena_deinit(&e->arena);
        free(e);
        return -ERR_IO;
    }
    uv_timer_init(&e->loop, &e->timer);
    e->timer.data = e;
    *ret = e;
    return 0;
}

void client_uv_free(struct client_uv *e)
{
    uint32_t i;

    if (!e)
        return;
    for (i = 0; i < e->n_links; i++) {
        if (e->links[i])
            link_close(e->links[i]);
    }
    uv_close((uv_handle_t *)&e->timer, NULL);
    while (uv_run(&e->loop, UV_RUN_DEFAULT) != 0)
        ;
    uv_loop_close(&e->loop);
    arena_deinit(&e->arena);
    free(e->links);
    free(e);
}
