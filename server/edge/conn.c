/* conn: one framed connection, of a client or of a peer.
 *
 *   dialled --> CONNECTING --> OPEN --conn_finish--> FINISHING --> CLOSING --> on_closed
 *   accepted -----------------^   \____________ conn_close ___________^
 *
 * In: bytes are read into the loop's shared buffer and whole frames are handled where they lie;
 * only an incomplete frame makes the connection own memory: a small one is kept in `in` and put in
 * front of the next read, a large one gets a buffer of its final size, into which the kernel then
 * writes.
 *
 * Out: frames are appended to `out`; the loop's flush writes what a wake-up collected with one
 * call. What the kernel does not take moves into a write request and `out` starts anew behind it.
 *
 * Back-pressure: while a hold is set the connection is not read, so the other side's writes stall
 * and nothing is buffered for it here. Releasing puts it on the loop's resume list; the flush then
 * first handles what had been read already. What was asked before the hold is still answered, so a
 * hold comes early: by the number of answers owed times the size that answers had of late. A burst
 * that came before any answer told its size is what conn_takes_answer is for. Volume alone never
 * closes a connection: whoever closed there would make a client that repeats itself start anew.
 *
 * Room for large frames is given by the length announced, so that whoever has begun can finish.
 * When others wait for it, those who announced much and send little are ended first. Links need
 * none: what comes along them was let in by another node.
 *
 * Time: conn_sweep closes what sends a frame too slowly, takes answers too slowly, or is idle.
 *
 * conn_close may be called at any time, also inside callbacks of this very connection: memory goes
 * only in libuv's close callback.
 */
#include "server/edge/conn.h"
#include "proto/err.h"
#include "proto/frame.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

struct conn_write {
    uv_write_t req;
    struct conn *conn;
    uint8_t *data;
    size_t len;
};

static void conn_read_start(struct conn *c);

/* ---- holds --------------------------------------------------------------------------------- */

static void conn_hold(struct conn *c, enum conn_hold why)
{
    c->holds |= (uint8_t)why;
    if (c->reading && c->state == CONN_OPEN) {
        uv_read_stop(&c->stream);
        c->reading = false;
    }
}

static void conn_release(struct conn *c, enum conn_hold why)
{
    if (!(c->holds & why))
        return;
    c->holds &= (uint8_t)~why;
    if (c->holds == 0 && c->state == CONN_OPEN && list_empty(&c->resume))
        list_append(&c->loop->resume, &c->resume);
}

void conn_owe_answer(struct conn *c)
{
    c->n_answers++;
    if (c->n_answers >= CONN_ANSWERS_MAX || c->n_answers * c->answer_size > CONN_OWED_BYTES_MAX)
        conn_hold(c, HOLD_ANSWERS);
}

void conn_answered(struct conn *c, size_t size)
{
    size_t faded = c->answer_size - c->answer_size / 8;

    c->answer_size = size > faded ? size : faded;
    if (c->n_answers > 0)
        c->n_answers--;
    if (c->n_answers <= CONN_ANSWERS_RESUME &&
        c->n_answers * c->answer_size <= CONN_OWED_BYTES_MAX / 2)
        conn_release(c, HOLD_ANSWERS);
}

bool conn_takes_answer(const struct conn *c, size_t size)
{
    return size <= CONN_ANSWER_SMALL_BYTES ||
           (c->unsent <= CONN_OUT_REFUSE_BYTES && c->loop->unsent_bytes <= LOOP_UNSENT_BYTES_MAX);
}

/* ---- large frames -------------------------------------------------------------------------- */

static void large_drop(struct conn *c)
{
    struct loop *l = c->loop;

    if (c->large) {
        if (!c->handler->trusted)
            l->large_bytes -= c->large->len;
        blob_unref(c->large);
        c->large = NULL;
        c->large_len = 0;
    }
    while (!list_empty(&l->starved) && l->large_bytes < LOOP_LARGE_BYTES_MAX / 2) {
        struct conn *other = list_entry(l->starved.next, struct conn, starved);
        list_remove(&other->starved);
        conn_release(other, HOLD_LARGE);
    }
}

/* The incomplete frame at the front of `rest` will have `want` bytes in all. Returns true if its
 * bytes have moved into a buffer of its own. */
static bool large_begin(struct conn *c, struct slice rest, size_t want)
{
    struct loop *l = c->loop;
    size_t len = want - LIMIT_FRAME_HEADER_BYTES;

    if (want <= CONN_LARGE_BYTES)
        return false;
    if (!c->handler->trusted && l->large_bytes + len > LOOP_LARGE_BYTES_MAX) {
        conn_hold(c, HOLD_LARGE);
        list_remove(&c->starved);
        list_append(&l->starved, &c->starved);
        return false;
    }
    c->large = blob_new(len);
    if (!c->large) {
        c->handler->on_broken(c, ERR_NO_MEMORY, 0, len);
        conn_finish(c);
        return true;
    }
    if (!c->handler->trusted)
        l->large_bytes += len;
    c->large_ms = loop_now_ms(l);
    c->large_len = rest.len - LIMIT_FRAME_HEADER_BYTES;
    memcpy(c->large->data, rest.data + LIMIT_FRAME_HEADER_BYTES, c->large_len);
    return true;
}

static void large_received(struct conn *c, size_t n)
{
    c->large_len += n;
    if (c->large_len < c->large->len)
        return;
    enum conn_verdict verdict = c->handler->on_frame(c, blob_slice(c->large));
    large_drop(c);
    c->frame_ms = 0;
    if (verdict != CONN_NEXT) /* no handler does that; its frame's bytes are not ours to move */
        conn_close(c, -ERR_INTERNAL);
}

/* ---- frames -------------------------------------------------------------------------------- */

static void conn_break(struct conn *c, int rc, struct slice at)
{
    uint64_t actual = 0;
    for (size_t i = 0; i < LIMIT_FRAME_HEADER_BYTES && i < at.len; i++)
        actual = actual << 8 | at.data[i];
    bool too_large = rc == -ERR_FRAME_TOO_LARGE;
    c->handler->on_broken(c, -rc, too_large ? LIMIT_FRAME_BYTES : 0, too_large ? actual : 0);
    conn_finish(c);
}

/* Handles the whole frames at the front of `in`; returns the bytes done with. *ret_want: the size
 * of the incomplete frame that follows, 0 if unknown. */
static size_t conn_drain(struct conn *c, struct slice in, size_t *ret_want)
{
    size_t at = 0;

    *ret_want = 0;
    while (c->state == CONN_OPEN && c->holds == 0 && at < in.len) {
        struct slice body, rest = slice_of(in.data + at, in.len - at);
        size_t used, want;
        int rc = frame_next(rest, &body, &used, &want);
        if (rc < 0) {
            conn_break(c, rc, rest);
            break;
        }
        if (rc == 0) {
            *ret_want = want;
            break;
        }
        enum conn_verdict verdict = c->handler->on_frame(c, body);
        size_t keep = verdict == CONN_MOVE_WITH ? at : at + used;
        at += used;
        if (verdict != CONN_NEXT) {
            c->handler->on_move(c, slice_of(in.data + keep, in.len - keep));
            break;
        }
    }
    return c->state == CONN_OPEN ? at : in.len;
}

/* `rest` was not consumed: keep it for the next read. `used`: something before it was. */
static void conn_keep(struct conn *c, struct slice rest, size_t want, bool used)
{
    if (rest.len == 0)
        c->frame_ms = 0;
    else if (used || c->frame_ms == 0)
        c->frame_ms = loop_now_ms(c->loop);
    if (rest.len == 0 || (want && large_begin(c, rest, want))) {
        buf_deinit(&c->in);
        buf_init(&c->in);
        return;
    }
    if (rest.data == c->in.data)
        return;
    c->in.len = 0;
    if (buf_append_slice(&c->in, rest) < 0)
        conn_close(c, -ERR_NO_MEMORY);
}

void conn_resume(struct conn *c)
{
    size_t want;

    if (c->state != CONN_OPEN || c->holds)
        return;
    if (c->in.len > 0) {
        c->waited_ms = loop_now_ms(c->loop) - c->active_ms;
        size_t used = conn_drain(c, buf_slice(&c->in), &want);
        c->waited_ms = 0;
        if (c->state != CONN_OPEN)
            return;
        buf_consume(&c->in, used);
        conn_keep(c, buf_slice(&c->in), want, used > 0);
    }
    if (c->frame_ms)
        c->frame_ms = loop_now_ms(c->loop); /* time under a hold is not the sender's fault */
    if (c->state == CONN_OPEN && !c->holds && !c->eof)
        conn_read_start(c);
}

/* ---- reading ------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    struct conn *c = handle->data;
    struct loop *l = c->loop;

    if (c->state == CONN_OPEN && c->large) {
        *ret = uv_buf_init((char *)c->large->data + c->large_len,
                           (unsigned)(c->large->len - c->large_len));
        return;
    }
    size_t front = c->state == CONN_OPEN ? c->in.len : 0;
    if (front > 0)
        memcpy(l->receive, c->in.data, front);
    *ret = uv_buf_init((char *)l->receive + front, (unsigned)(LOOP_RECEIVE_BYTES - front));
}

static void conn_eof(struct conn *c, ssize_t nread)
{
    c->eof = true;
    if (nread != UV_EOF) {
        c->os_error = (int)nread;
        conn_close(c, -ERR_CLOSED);
    } else if (c->state == CONN_FINISHING || (c->n_answers == 0 && conn_unsent(c) == 0)) {
        conn_close(c, c->error);
    } else {
        uv_read_stop(&c->stream); /* half-closed: it still gets its answers */
        c->reading = false;
    }
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    size_t want;

    if (c->state == CONN_CLOSING || nread == 0)
        return;
    if (nread < 0) {
        conn_eof(c, nread);
        return;
    }
    c->active_ms = loop_now_ms(c->loop);
    if (c->state != CONN_OPEN)
        return; /* finishing: thrown away */
    if (c->large) {
        large_received(c, (size_t)nread);
        return;
    }
    struct slice in = slice_of(c->loop->receive, c->in.len + (size_t)nread);
    size_t used = conn_drain(c, in, &want);
    if (c->state == CONN_OPEN)
        conn_keep(c, slice_of(in.data + used, in.len - used), want, used > 0);
}

static void conn_read_start(struct conn *c)
{
    if (c->reading)
        return;
    c->reading = true;
    uv_read_start(&c->stream, on_alloc, on_read);
}

/* ---- writing ------------------------------------------------------------------------------- */

size_t conn_unsent(const struct conn *c)
{
    return c->out.len + (c->writing ? uv_stream_get_write_queue_size(&c->stream) : 0);
}

/* Keeps the loop's sum, in bytes of memory: what the kernel took a part of is held whole. */
static void conn_count_unsent(struct conn *c)
{
    size_t unsent = c->out.len + (c->writing ? c->writing->len : 0);

    if (c->state == CONN_CLOSING)
        unsent = 0;
    c->loop->unsent_bytes += unsent - c->unsent;
    c->unsent = unsent;
}

static bool conn_unsent_too_much(const struct conn *c)
{
    size_t unsent = conn_unsent(c);
    return unsent > CONN_OUT_PAUSE_BYTES ||
           (unsent > CONN_OUT_RESUME_BYTES && c->loop->unsent_bytes > LOOP_UNSENT_BYTES_MAX);
}

struct buf *conn_out(struct conn *c)
{
    return c->state == CONN_OPEN ? &c->out : NULL;
}

void conn_sent(struct conn *c)
{
    conn_count_unsent(c);
    if (list_empty(&c->dirty))
        list_append(&c->loop->dirty, &c->dirty);
    if (conn_unsent_too_much(c) && c->handler->pauses)
        conn_hold(c, HOLD_OUT);
}

/* All that was packed has gone to the kernel. */
static void on_shutdown(uv_shutdown_t *req, int status)
{
    struct conn *c = req->handle->data;
    if (c->state != CONN_CLOSING && (status < 0 || c->eof))
        conn_close(c, c->error);
}

static void conn_drained(struct conn *c)
{
    if (c->out.cap > CONN_OUT_KEEP_BYTES) {
        buf_deinit(&c->out);
        buf_init(&c->out);
    }
    if (c->state == CONN_FINISHING && !c->shut) {
        c->shut = true;
        if (uv_shutdown(&c->shutdown, &c->stream, on_shutdown) < 0)
            conn_close(c, c->error);
    } else if (c->state == CONN_OPEN && c->eof && c->n_answers == 0) {
        conn_close(c, 0);
    }
}

static void on_written(uv_write_t *req, int status)
{
    struct conn_write *w = (struct conn_write *)req;
    struct conn *c = w->conn;

    free(w->data);
    free(w);
    c->writing = NULL;
    if (c->state == CONN_CLOSING)
        return;
    if (status < 0) {
        c->os_error = status;
        conn_close(c, -ERR_CLOSED);
        return;
    }
    c->progress_ms = loop_now_ms(c->loop);
    if (list_empty(&c->dirty)) /* also when out is empty: conn_drained is due */
        list_append(&c->loop->dirty, &c->dirty);
}

/* The kernel took `done` bytes and no more: queue the rest from a buffer that the request owns. */
static void conn_queue(struct conn *c, size_t done)
{
    struct conn_write *w = malloc(sizeof(*w));
    if (!w) {
        conn_close(c, -ERR_NO_MEMORY);
        return;
    }
    w->conn = c;
    w->data = c->out.data;
    w->len = c->out.len;
    c->writing = w;
    uv_buf_t rest = uv_buf_init((char *)w->data + done, (unsigned)(c->out.len - done));
    buf_init(&c->out);
    int rc = uv_write(&w->req, &c->stream, &rest, 1, on_written);
    if (rc < 0) {
        c->writing = NULL;
        free(w->data);
        free(w);
        c->os_error = rc;
        conn_close(c, -ERR_CLOSED);
        return;
    }
    c->progress_left = rest.len;
}

void conn_flush(struct conn *c)
{
    if (c->state == CONN_CLOSING || c->state == CONN_CONNECTING || c->writing)
        return;
    if (c->out.len > 0) {
        uv_buf_t all = uv_buf_init((char *)c->out.data, (unsigned)c->out.len);
        int n = uv_try_write(&c->stream, &all, 1);
        if (n < 0 && n != UV_EAGAIN) {
            c->os_error = n;
            conn_close(c, -ERR_CLOSED);
            return;
        }
        c->progress_ms = loop_now_ms(c->loop);
        if (n >= 0 && (size_t)n == c->out.len)
            c->out.len = 0;
        else
            conn_queue(c, n < 0 ? 0 : (size_t)n);
    }
    if (c->state == CONN_CLOSING)
        return;
    conn_count_unsent(c);
    if (conn_unsent(c) <= CONN_OUT_RESUME_BYTES)
        conn_release(c, HOLD_OUT);
    if (!c->writing)
        conn_drained(c);
}

/* ---- limits in time ------------------------------------------------------------------------ */

static bool conn_stalled(struct conn *c, uint64_t now_ms)
{
    size_t left = c->writing ? uv_stream_get_write_queue_size(&c->stream) : 0;
    if (left == 0 || left != c->progress_left) {
        c->progress_left = left;
        c->progress_ms = now_ms;
        return false;
    }
    return now_ms - c->progress_ms >= c->loop->limits.stall_ms;
}

static void conn_end_slow(struct conn *c, uint64_t limit_ms, uint64_t actual_ms)
{
    c->error = -ERR_SLOW;
    c->handler->on_broken(c, ERR_SLOW, limit_ms, actual_ms);
    conn_finish(c);
}

void conn_sweep_large(struct conn *c, uint64_t now_ms)
{
    if (c->state != CONN_OPEN || !c->large || c->handler->trusted)
        return;
    uint64_t due_ms = CONN_LARGE_GRACE_MS + ((uint64_t)c->large_len * CONN_FRAME_MS_PER_MIB >> 20);
    if (now_ms - c->large_ms < due_ms)
        return;
    conn_end_slow(c, due_ms, now_ms - c->large_ms);
    large_drop(c);
}

void conn_sweep(struct conn *c, uint64_t now_ms)
{
    const struct loop_limits *limits = &c->loop->limits;
    uint64_t large_ms = c->large ? (uint64_t)c->large->len * CONN_FRAME_MS_PER_MIB >> 20 : 0;

    if (c->state == CONN_CLOSING)
        return;
    if (c->must_ms && now_ms >= c->must_ms) {
        conn_close(c, c->state == CONN_FINISHING ? c->error : -ERR_SLOW);
    } else if (conn_stalled(c, now_ms)) {
        log_warn(c->loop->log, "closed a connection that takes nothing",
                 "peer=%d unsent_bytes=%zu answers=%u", c->handler->peer, conn_unsent(c),
                 c->n_answers);
        conn_close(c, -ERR_SLOW);
    } else if (c->state != CONN_OPEN) {
        return;
    } else if (c->frame_ms && !c->holds && now_ms - c->frame_ms >= limits->frame_ms + large_ms) {
        conn_end_slow(c, limits->frame_ms + large_ms, now_ms - c->frame_ms);
    } else if (c->handler->idle_closes && !c->frame_ms && c->n_answers == 0 && !c->writing &&
               now_ms - c->active_ms >= limits->idle_ms) {
        conn_close(c, 0);
    }
}

/* ---- life ---------------------------------------------------------------------------------- */

static int conn_begin(struct conn *c, struct loop *l, const struct conn_handler *handler,
                      enum conn_state state)
{
    c->loop = l;
    c->handler = handler;
    list_init(&c->all);
    list_init(&c->dirty);
    list_init(&c->resume);
    list_init(&c->starved);
    buf_init(&c->in);
    buf_init(&c->out);
    int rc = loop_add_conn(l, c, &c->id);
    if (rc < 0)
        return rc;
    c->state = state;
    uv_tcp_init(&l->uv, &c->tcp);
    c->handle.data = c;
    c->active_ms = c->progress_ms = loop_now_ms(l);
    return 0;
}

static void conn_tune(struct conn *c)
{
    uv_os_fd_t fd;
    unsigned timeout_ms = CONN_USER_TIMEOUT_MS;

    uv_tcp_nodelay(&c->tcp, 1); /* frames are coalesced per wake-up: nothing to wait for */
    if (!c->handler->peer)
        return;
    uv_tcp_keepalive(&c->tcp, 1, CONN_KEEPALIVE_S);
    if (uv_fileno(&c->handle, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
}

int conn_open(struct conn *c, struct loop *l, const struct conn_handler *handler, int fd,
              struct slice unread)
{
    int rc = conn_begin(c, l, handler, CONN_OPEN);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    rc = uv_tcp_open(&c->tcp, fd);
    if (rc < 0) {
        close(fd);
        c->os_error = rc;
        conn_close(c, -ERR_CLOSED);
        return 0;
    }
    conn_tune(c);
    if (unread.len == 0) {
        conn_read_start(c);
    } else if (buf_append_slice(&c->in, unread) < 0) {
        conn_close(c, -ERR_NO_MEMORY);
    } else { /* handled in the flush, then reading starts */
        list_append(&l->resume, &c->resume);
    }
    return 0;
}

static void on_connected(uv_connect_t *req, int status)
{
    struct conn *c = req->handle->data;

    if (c->state != CONN_CONNECTING)
        return;
    if (status < 0) {
        c->os_error = status;
        conn_close(c, -ERR_UNREACHABLE);
        return;
    }
    c->state = CONN_OPEN;
    c->active_ms = loop_now_ms(c->loop);
    conn_tune(c);
    conn_read_start(c);
    c->handler->on_open(c);
}

int conn_dial(struct conn *c, struct loop *l, const struct conn_handler *handler,
              const struct sockaddr *to, uint64_t must_ms)
{
    int rc = conn_begin(c, l, handler, CONN_CONNECTING);
    if (rc < 0)
        return rc;
    c->must_ms = must_ms;
    rc = uv_tcp_connect(&c->connect, &c->tcp, to, on_connected);
    if (rc < 0) {
        c->os_error = rc;
        conn_close(c, -ERR_UNREACHABLE);
    }
    return 0;
}

void conn_finish(struct conn *c)
{
    if (c->state == CONN_CONNECTING)
        conn_close(c, 0);
    if (c->state != CONN_OPEN)
        return;
    c->state = CONN_FINISHING;
    c->must_ms = loop_now_ms(c->loop) + CONN_LINGER_MS;
    c->frame_ms = 0;
    if (list_empty(&c->dirty))
        list_append(&c->loop->dirty, &c->dirty);
    if (!c->eof)
        conn_read_start(c);
}

static void on_close(uv_handle_t *handle)
{
    struct conn *c = handle->data;

    loop_remove_conn(c->loop, c, c->id);
    list_remove(&c->dirty);
    list_remove(&c->resume);
    list_remove(&c->starved);
    large_drop(c);
    buf_deinit(&c->in);
    buf_deinit(&c->out);
    c->handler->on_closed(c);
}

void conn_close(struct conn *c, int error)
{
    if (c->state == CONN_CLOSING)
        return;
    c->state = CONN_CLOSING;
    c->error = error;
    conn_count_unsent(c);
    uv_close(&c->handle, on_close);
}

const char *conn_why(const struct conn *c)
{
    if (c->os_error)
        return uv_strerror(c->os_error);
    return c->error ? err_text(c->error) : "closed by the other side";
}

int conn_dup(const struct conn *c)
{
    uv_os_fd_t fd;
    return uv_fileno(&c->handle, &fd) == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
}
