/* client: the calls of quoit.h, as requests of a session and turns of its edge.
 *
 * Results are translated here from the wire's structs to the public ones, without copying: a
 * callback borrows the bytes of the frame. A blocking call is a request whose callback copies the
 * result into the handle, so that it outlives the turn.
 */
#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/address.h"
#include "client/client_uv.h"
#include "client/quoit.h"
#include "client/session.h"
#include "client/status.h"

#define CLIENT_ENDPOINTS_DEFAULT "127.0.0.1:7400"
#define CLIENT_REQUESTS_DEFAULT 4096u
#define CLIENT_BYTES_DEFAULT ((size_t)32 << 20)
#define CLIENT_POLL_MS_MAX 60000u /* one wait; longer ones are several */

#define CHECK_CODE(name, number, retry, text)                                                      \
    static_assert((int)QUOIT_ERR_##name == (int)ERR_##name, "quoit.h and the table differ");
ERR_TABLE(CHECK_CODE)
/* equal by value, which is the point: NOLINTBEGIN(misc-redundant-expression) */
static_assert(QUOIT_KEY_BYTES_MAX == LIMIT_KEY_BYTES, "limit");
static_assert(QUOIT_VALUE_BYTES_MAX == LIMIT_VALUE_BYTES, "limit");
static_assert(QUOIT_TIMEOUT_MS_MAX == LIMIT_DEADLINE_MAX_MS, "limit");
static_assert(QUOIT_ENDPOINTS_MAX == POOL_ENDPOINTS_MAX, "limit");
/* NOLINTEND(misc-redundant-expression) */
static_assert((int)QUOIT_ONE == LEVEL_ONE && (int)QUOIT_QUORUM == LEVEL_QUORUM &&
                  (int)QUOIT_ALL == LEVEL_ALL,
              "levels");
static_assert(QUOIT_OWNERS_MAX >= LIMIT_SLOTS_MAX, "owners");
static_assert((int)QUOIT_UNAVAILABLE == VERDICT_UNAVAILABLE && (int)QUOIT_STOPPED == MEMBER_STOPPED,
              "verdicts and states");

struct quoit {
    struct session session;
    struct client_uv *edge;
    struct quoit_config config;
    char *client;
    bool session_ready, in_turn;
    struct quoit_record *records; /* of the page handed to a callback */
    size_t records_cap;
    char text[256];
    char name[LIMIT_NAME_BYTES + 1], software[LIMIT_NAME_BYTES + 1];
    struct buf kept; /* bytes of the last blocking result */
    struct quoit_record *kept_records;
    size_t kept_records_cap;
    char kept_text[256], kept_node[LIMIT_ADDRESS_BYTES + 1];
    char kept_name[LIMIT_NAME_BYTES + 1], kept_software[LIMIT_NAME_BYTES + 1];
    struct arena place;  /* strings of quoit_locate */
    struct arena status; /* of the last status */
};

const char *quoit_error_name(int code)
{
    return err_name(code);
}

const char *quoit_error_text(int code)
{
    return err_text(code);
}

const char *quoit_version_string(void)
{
    return QUOIT_VERSION;
}

/* ---- the handle -------------------------------------------------------------------------- */

void quoit_config_init(struct quoit_config *config)
{
    *config = (struct quoit_config){
        .endpoints = CLIENT_ENDPOINTS_DEFAULT,
        .timeout_ms = LIMIT_DEADLINE_DEFAULT_MS,
        .level = QUOIT_QUORUM,
        .connections = 1,
        .max_requests = CLIENT_REQUESTS_DEFAULT,
        .max_bytes = CLIENT_BYTES_DEFAULT,
        .client = "libquoit " QUOIT_VERSION,
    };
}

static bool config_valid(const struct quoit_config *c)
{
    return c->endpoints && c->timeout_ms >= 1 && c->timeout_ms <= LIMIT_DEADLINE_MAX_MS &&
           (int)c->level >= 0 && c->level <= QUOIT_ALL && c->connections >= 1 &&
           c->connections <= QUOIT_CONNECTIONS_MAX && c->max_requests >= 1 &&
           c->max_requests <= QUOIT_REQUESTS_MAX && c->client &&
           strlen(c->client) <= LIMIT_NAME_BYTES;
}

static int add_endpoints(struct quoit *q, const char *list)
{
    char text[LIMIT_ADDRESS_BYTES + 16];
    const char *cursor = list, *entry;
    struct address a;
    size_t len;
    int r, n = 0;

    while ((r = address_next(&cursor, &entry, &len)) == 1) {
        if (address_parse(entry, len, QUOIT_DEFAULT_PORT, &a) < 0)
            return -ERR_CONFIG;
        /* in the form that the ring uses, so that both name one target */
        snprintf(text, sizeof(text), strchr(a.host, ':') ? "[%s]:%u" : "%s:%u", a.host,
                 (unsigned)a.port);
        r = session_add_endpoint(&q->session, slice_str(text));
        if (r < 0)
            return r == -ERR_FULL ? -ERR_CONFIG : r;
        n++;
    }
    return r < 0 ? r : n > 0 ? 0 : -ERR_CONFIG;
}

static void on_done(void *ctx, const struct session_done *done);

static int handle_open(struct quoit *q, const struct quoit_config *config)
{
    struct session_config sc = {
        .requests_max = config->max_requests,
        .lanes = config->connections,
        .bytes_max = config->max_bytes,
        .direct = config->direct,
        .seed = client_uv_seed(),
    };
    int r;

    q->client = strdup(config->client);
    if (!q->client)
        return -ERR_NO_MEMORY;
    sc.client = q->client;
    r = session_init(&q->session, &sc);
    q->session_ready = true;
    if (r == 0)
        r = add_endpoints(q, config->endpoints);
    if (r == 0)
        r = client_uv_new(&q->session, on_done, q, &q->edge);
    return r;
}

/* Writing to a socket that the other side has closed must be an error, not the end of the process.
 */
static void ignore_sigpipe(void)
{
    struct sigaction now;

    if (sigaction(SIGPIPE, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) &&
        now.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

int quoit_new(const struct quoit_config *config, struct quoit **ret)
{
    struct quoit *q;
    int r;

    if (!config || !ret || !config_valid(config))
        return -ERR_CONFIG;
    q = calloc(1, sizeof(*q));
    if (!q)
        return -ERR_NO_MEMORY;
    q->config = *config;
    q->config.endpoints = q->config.client = NULL;
    buf_init(&q->kept);
    arena_init(&q->place, 64u << 10);
    arena_init(&q->status, STATUS_ARENA_BYTES);
    ignore_sigpipe();
    r = handle_open(q, config);
    if (r < 0) {
        quoit_free(q);
        return r;
    }
    *ret = q;
    return 0;
}

void quoit_free(struct quoit *q)
{
    if (!q)
        return;
    assert(!q->in_turn);
    if (q->edge) {
        session_close(&q->session);
        q->in_turn = true;
        while (q->session.n_pending > 0)
            client_uv_flush(q->edge);
    }
    client_uv_free(q->edge);
    if (q->session_ready)
        session_deinit(&q->session);
    buf_deinit(&q->kept);
    arena_deinit(&q->place);
    arena_deinit(&q->status);
    free(q->kept_records);
    free(q->records);
    free(q->client);
    free(q);
}

size_t quoit_pending(const struct quoit *q)
{
    return q->session.n_pending;
}

int quoit_fd(const struct quoit *q)
{
    return client_uv_fd(q->edge);
}

int quoit_wait_ms(struct quoit *q)
{
    uint64_t deadline = session_deadline(&q->session), now;

    if (client_uv_pending(q->edge))
        return 0;
    if (deadline == SESSION_WAIT_FOREVER)
        return -1;
    client_uv_refresh(q->edge);
    now = client_uv_now(q->edge);
    if (deadline <= now)
        return 0;
    return deadline - now > CLIENT_POLL_MS_MAX ? (int)CLIENT_POLL_MS_MAX : (int)(deadline - now);
}

static int turn(struct quoit *q, uint64_t timeout_ms)
{
    int n;

    q->in_turn = true;
    n = client_uv_turn(q->edge, timeout_ms);
    q->in_turn = false;
    return n;
}

int quoit_poll(struct quoit *q, int timeout_ms)
{
    uint64_t now, end;
    int n;

    if (q->in_turn)
        return -ERR_BAD_REQUEST;
    if (timeout_ms == 0)
        return turn(q, 0);
    client_uv_refresh(q->edge);
    now = client_uv_now(q->edge);
    end = timeout_ms < 0 ? UINT64_MAX : now + (uint64_t)timeout_ms;
    do {
        if (timeout_ms < 0 && q->session.n_pending == 0)
            return 0;
        n = turn(q, end - now < CLIENT_POLL_MS_MAX ? end - now : CLIENT_POLL_MS_MAX);
        now = client_uv_now(q->edge);
    } while (n == 0 && now < end);
    return n;
}

/* ---- results ----------------------------------------------------------------------------- */

static const char *copy_text(char *to, size_t size, struct slice from)
{
    size_t n = from.len < size - 1 ? from.len : size - 1;

    if (n > 0)
        memcpy(to, from.data, n);
    to[n] = '\0';
    return to;
}

static struct quoit_version version_out(struct version v)
{
    return (struct quoit_version){.hlc = v.hlc, .actor = v.actor};
}

static int fill_records(struct quoit *q, const struct wire_scan_result *scan,
                        struct quoit_result *out)
{
    const struct wire_record *from;
    struct quoit_record *grown;
    size_t i;

    if (scan->n_records > q->records_cap) {
        grown = realloc(q->records, scan->n_records * sizeof(*grown));
        if (!grown)
            return -ERR_NO_MEMORY;
        q->records = grown;
        q->records_cap = scan->n_records;
    }
    for (i = 0; i < scan->n_records; i++) {
        from = &scan->records[i];
        q->records[i] = (struct quoit_record){.key = from->key.partition.data,
                                              .key_len = from->key.partition.len,
                                              .sort_key = from->key.sort.data,
                                              .sort_key_len = from->key.sort.len,
                                              .value = from->state.value.data,
                                              .value_len = from->state.value.len,
                                              .version = version_out(from->state.version)};
    }
    out->records = q->records;
    out->n_records = scan->n_records;
    out->cursor = scan->cursor.data;
    out->cursor_len = scan->cursor.len;
    return 0;
}

static int fill_success(struct quoit *q, const struct wire_response *res, struct quoit_result *out)
{
    switch (res->type) {
    case RESULT_GET:
        out->value = res->u.get.value.data;
        out->value_len = res->u.get.value.len;
        out->version = version_out(res->u.get.version);
        out->replicas = res->u.get.replicas;
        return res->u.get.found ? 0 : QUOIT_NOT_FOUND;
    case RESULT_WRITE:
        out->version = version_out(res->u.write.version);
        out->replicas = res->u.write.replicas;
        return 0;
    case RESULT_PING:
        memcpy(out->node_id, res->u.ping.node_id.b, WIRE_ID_BYTES);
        out->name = copy_text(q->name, sizeof(q->name), res->u.ping.name);
        out->software = copy_text(q->software, sizeof(q->software), res->u.ping.software);
        out->serving = res->u.ping.serving;
        return 0;
    case RESULT_SCAN:
        return fill_records(q, &res->u.scan, out);
    case RESULT_RING:
        out->epoch = res->u.ring->epoch;
        out->n_partitions = res->u.ring->n_partitions;
        return 0;
    case RESULT_STATUS:
        arena_reset(&q->status, STATUS_ARENA_BYTES);
        return status_fill(res->u.status, &q->status, &out->status);
    case RESULT_NONE:
    case RESULT_HELLO:
        break;
    }
    return -ERR_INTERNAL;
}

static void on_done(void *ctx, const struct session_done *done)
{
    struct quoit *q = ctx;
    struct quoit_result out = {.code = done->code,
                               .text = "",
                               .node = done->address,
                               .limit = done->limit,
                               .actual = done->actual,
                               .attempts = done->attempts,
                               .name = "",
                               .software = ""};

    if (!done->callback)
        return;
    if (out.code == 0)
        out.code = fill_success(q, done->response, &out);
    if (out.code < 0)
        out.text =
            done->text.len ? copy_text(q->text, sizeof(q->text), done->text) : err_text(out.code);
    done->callback(q, &out, done->ctx);
}

/* ---- asynchronous ------------------------------------------------------------------------ */

static int submit(struct quoit *q, struct session_request *req, const struct quoit_options *o,
                  quoit_callback callback, void *ctx)
{
    static const struct quoit_options none;
    enum quoit_level level;

    if (!o)
        o = &none;
    level = o->level ? o->level : q->config.level;
    req->level = (enum wire_level)level;
    req->timeout_ms = o->timeout_ms ? o->timeout_ms : q->config.timeout_ms;
    if ((int)level < 0 || level > QUOIT_ALL || req->timeout_ms > LIMIT_DEADLINE_MAX_MS ||
        (o->flags & ~(uint32_t)(QUOIT_REPEAT | QUOIT_FAIL_FAST)))
        return -ERR_BAD_REQUEST;
    req->flags = o->flags;
    req->lane = o->lane;
    req->key.bucket = o->bucket;
    req->key.sort = slice_of(o->sort_key, o->sort_key_len);
    req->callback = callback;
    req->ctx = ctx;
    if (!q->in_turn)
        client_uv_refresh(q->edge); /* the deadline counts from now, not from the last turn */
    return session_submit(&q->session, client_uv_now(q->edge), req);
}

int quoit_get_async(struct quoit *q, const void *key, size_t key_len,
                    const struct quoit_options *options, quoit_callback callback, void *ctx)
{
    struct session_request req = {.op = OP_GET, .key.partition = slice_of(key, key_len)};

    return submit(q, &req, options, callback, ctx);
}

int quoit_put_async(struct quoit *q, const void *key, size_t key_len, const void *value,
                    size_t value_len, const struct quoit_options *options, quoit_callback callback,
                    void *ctx)
{
    struct session_request req = {
        .op = OP_PUT, .key.partition = slice_of(key, key_len), .value = slice_of(value, value_len)};

    return submit(q, &req, options, callback, ctx);
}

int quoit_del_async(struct quoit *q, const void *key, size_t key_len,
                    const struct quoit_options *options, quoit_callback callback, void *ctx)
{
    struct session_request req = {.op = OP_DELETE, .key.partition = slice_of(key, key_len)};

    return submit(q, &req, options, callback, ctx);
}

int quoit_ping_async(struct quoit *q, const struct quoit_options *options, quoit_callback callback,
                     void *ctx)
{
    struct session_request req = {.op = OP_PING};

    return submit(q, &req, options, callback, ctx);
}

int quoit_scan_async(struct quoit *q, uint32_t partition, const void *cursor, size_t cursor_len,
                     uint32_t page_bytes, const struct quoit_options *options,
                     quoit_callback callback, void *ctx)
{
    struct session_request req = {.op = OP_SCAN,
                                  .scan = {.partition = partition,
                                           .cursor = slice_of(cursor, cursor_len),
                                           .page_bytes = page_bytes}};

    if (!q->session.route)
        return -ERR_NOT_READY;
    req.scan.n_partitions = route_ring(q->session.route)->n_partitions;
    if (partition >= req.scan.n_partitions)
        return -ERR_BAD_REQUEST;
    return submit(q, &req, options, callback, ctx);
}

int quoit_ring_async(struct quoit *q, const struct quoit_options *options, quoit_callback callback,
                     void *ctx)
{
    struct session_request req = {.op = OP_RING};

    return submit(q, &req, options, callback, ctx);
}

int quoit_status_async(struct quoit *q, bool partitions, const struct quoit_options *options,
                       quoit_callback callback, void *ctx)
{
    struct session_request req = {.op = OP_STATUS, .with_ring = partitions};

    return submit(q, &req, options, callback, ctx);
}

/* ---- blocking ---------------------------------------------------------------------------- */

struct waiting {
    bool done;
    struct quoit_result result;
};

/* Appends and returns where the bytes will be; kept is reserved beforehand, so it does not move. */
static const void *keep(struct quoit *q, const void *data, size_t len)
{
    const uint8_t *at = q->kept.data + q->kept.len;

    buf_append(&q->kept, data, len);
    return len ? at : NULL;
}

static int keep_bytes(struct quoit *q, const struct quoit_result *r, struct quoit_result *out)
{
    size_t total = r->value_len + r->cursor_len + 1, i;
    struct quoit_record *grown, *to;

    for (i = 0; i < r->n_records; i++)
        total += r->records[i].key_len + r->records[i].sort_key_len + r->records[i].value_len;
    q->kept.len = 0;
    if (buf_reserve(&q->kept, total) < 0)
        return -ERR_NO_MEMORY;
    if (r->n_records > q->kept_records_cap) {
        grown = realloc(q->kept_records, r->n_records * sizeof(*grown));
        if (!grown)
            return -ERR_NO_MEMORY;
        q->kept_records = grown;
        q->kept_records_cap = r->n_records;
    }
    out->value = keep(q, r->value, r->value_len);
    out->cursor = keep(q, r->cursor, r->cursor_len);
    for (i = 0; i < r->n_records; i++) {
        to = &q->kept_records[i];
        *to = r->records[i];
        to->key = keep(q, to->key, to->key_len);
        to->sort_key = keep(q, to->sort_key, to->sort_key_len);
        to->value = keep(q, to->value, to->value_len);
    }
    out->records = r->n_records ? q->kept_records : NULL;
    return 0;
}

static void on_waited(struct quoit *q, const struct quoit_result *r, void *ctx)
{
    struct waiting *w = ctx;
    struct quoit_result *out = &w->result;

    *out = *r;
    if (keep_bytes(q, r, out) < 0) {
        *out = (struct quoit_result){.code = -ERR_NO_MEMORY, .node = r->node};
        out->text = err_text(out->code);
    }
    out->text = copy_text(q->kept_text, sizeof(q->kept_text), slice_str(r->text));
    out->node = copy_text(q->kept_node, sizeof(q->kept_node), slice_str(r->node));
    out->name = copy_text(q->kept_name, sizeof(q->kept_name), slice_str(r->name));
    out->software = copy_text(q->kept_software, sizeof(q->kept_software), slice_str(r->software));
    w->done = true;
}

static int fail(int code, const struct waiting *w, size_t key_len, size_t value_len,
                struct quoit_result *ret)
{
    struct quoit_result out = {
        .code = code, .text = err_text(code), .node = "", .name = "", .software = ""};

    (void)w;
    if (code == -ERR_KEY_TOO_LARGE) {
        out.limit = LIMIT_KEY_BYTES;
        out.actual = key_len;
    } else if (code == -ERR_VALUE_TOO_LARGE) {
        out.limit = LIMIT_VALUE_BYTES;
        out.actual = value_len;
    }
    if (ret)
        *ret = out;
    return code;
}

static int wait_for(struct quoit *q, struct waiting *w, struct quoit_result *ret)
{
    while (!w->done)
        turn(q, CLIENT_POLL_MS_MAX);
    if (ret)
        *ret = w->result;
    return w->result.code;
}

static size_t whole_key(size_t key_len, const struct quoit_options *o)
{
    return key_len + (o ? o->sort_key_len : 0);
}

int quoit_get(struct quoit *q, const void *key, size_t key_len, const struct quoit_options *options,
              struct quoit_result *ret)
{
    struct waiting w = {0};
    int r =
        q->in_turn ? -ERR_BAD_REQUEST : quoit_get_async(q, key, key_len, options, on_waited, &w);

    return r < 0 ? fail(r, &w, whole_key(key_len, options), 0, ret) : wait_for(q, &w, ret);
}

int quoit_put(struct quoit *q, const void *key, size_t key_len, const void *value, size_t value_len,
              const struct quoit_options *options, struct quoit_result *ret)
{
    struct waiting w = {0};
    int r = q->in_turn ? -ERR_BAD_REQUEST
                       : quoit_put_async(q, key, key_len, value, value_len, options, on_waited, &w);

    return r < 0 ? fail(r, &w, whole_key(key_len, options), value_len, ret) : wait_for(q, &w, ret);
}

int quoit_del(struct quoit *q, const void *key, size_t key_len, const struct quoit_options *options,
              struct quoit_result *ret)
{
    struct waiting w = {0};
    int r =
        q->in_turn ? -ERR_BAD_REQUEST : quoit_del_async(q, key, key_len, options, on_waited, &w);

    return r < 0 ? fail(r, &w, whole_key(key_len, options), 0, ret) : wait_for(q, &w, ret);
}

int quoit_ping(struct quoit *q, const struct quoit_options *options, struct quoit_result *ret)
{
    struct waiting w = {0};
    int r = q->in_turn ? -ERR_BAD_REQUEST : quoit_ping_async(q, options, on_waited, &w);

    return r < 0 ? fail(r, &w, 0, 0, ret) : wait_for(q, &w, ret);
}

int quoit_scan(struct quoit *q, uint32_t partition, const void *cursor, size_t cursor_len,
               uint32_t page_bytes, const struct quoit_options *options, struct quoit_result *ret)
{
    struct waiting w = {0};
    int r = q->in_turn ? -ERR_BAD_REQUEST
                       : quoit_scan_async(q, partition, cursor, cursor_len, page_bytes, options,
                                          on_waited, &w);

    return r < 0 ? fail(r, &w, 0, 0, ret) : wait_for(q, &w, ret);
}

int quoit_ring(struct quoit *q, const struct quoit_options *options, struct quoit_result *ret)
{
    struct waiting w = {0};
    int r = q->in_turn ? -ERR_BAD_REQUEST : quoit_ring_async(q, options, on_waited, &w);

    return r < 0 ? fail(r, &w, 0, 0, ret) : wait_for(q, &w, ret);
}

int quoit_status(struct quoit *q, bool partitions, const struct quoit_options *options,
                 struct quoit_result *ret)
{
    struct waiting w = {0};
    int r =
        q->in_turn ? -ERR_BAD_REQUEST : quoit_status_async(q, partitions, options, on_waited, &w);

    return r < 0 ? fail(r, &w, 0, 0, ret) : wait_for(q, &w, ret);
}

/* ---- where ------------------------------------------------------------------------------- */

static const char *place_text(struct quoit *q, struct slice s)
{
    char *copy = arena_alloc(&q->place, s.len + 1);

    return copy ? copy_text(copy, s.len + 1, s) : "";
}

static void place_owner(struct quoit *q, const struct route_owner *from, struct quoit_owner *to)
{
    const struct wire_member *m = &route_ring(q->session.route)->members[from->member];

    *to = (struct quoit_owner){.node = place_text(q, m->name),
                               .slot = from->slot,
                               .client = place_text(q, m->client_address),
                               .peer = place_text(q, m->peer_address),
                               .primary = from->primary};
    memcpy(to->id, m->id.b, WIRE_ID_BYTES);
}

int quoit_locate(struct quoit *q, const void *key, size_t key_len,
                 const struct quoit_options *options, struct quoit_place *ret)
{
    struct route_owner owners[LIMIT_SLOTS_MAX];
    struct key k = {.partition = slice_of(key, key_len)};
    struct quoit_place out = {0};
    uint32_t i, n, slot;
    int r;

    if (options) {
        k.bucket = options->bucket;
        k.sort = slice_of(options->sort_key, options->sort_key_len);
    }
    r = key_check(&k);
    if (r < 0)
        return r;
    if (!q->session.route)
        return -ERR_NOT_READY;
    arena_reset(&q->place, 64u << 10);
    out.token = route_token(q->session.route, &k);
    out.epoch = route_ring(q->session.route)->epoch;
    out.n_partitions = route_ring(q->session.route)->n_partitions;
    out.partition = route_partition(q->session.route, out.token);
    n = route_owners(q->session.route, out.partition, owners);
    for (slot = 0; slot < LIMIT_SLOTS_MAX; slot++) {
        for (i = 0; i < n; i++) {
            if (owners[i].slot == slot)
                place_owner(q, &owners[i], &out.owners[out.n_owners++]);
        }
    }
    *ret = out;
    return 0;
}
