/* conn: one framed connection, of a client or of a peer. See conn.c. */
#ifndef QUOIT_EDGE_CONN_H
#define QUOIT_EDGE_CONN_H

#include "server/edge/loop.h"

/* A frame larger than this is received straight into a buffer of its final size; smaller ones are
 * parsed where they were read. A copy of 64 KiB costs some 10 us, less than a second read call. */
#define CONN_LARGE_BYTES (64u << 10)

/* Bytes waiting to be written. Above PAUSE the connection is not read any more until RESUME is
 * reached: whoever does not take answers gets to send no more requests. The answers of requests
 * taken earlier still come: above REFUSE those with a payload are not appended any more, and
 * OVERLOADED is said instead. More than what OWED lets through, so that a connection whose answers
 * have a steady size is never refused. */
#define CONN_OUT_PAUSE_BYTES (1u << 20)
#define CONN_OUT_RESUME_BYTES (256u << 10)
#define CONN_OUT_REFUSE_BYTES (32u << 20)
/* An answer that is always appended: a refusal would hardly be smaller. */
#define CONN_ANSWER_SMALL_BYTES 4096u
/* An empty out-buffer larger than this is given back. */
#define CONN_OUT_KEEP_BYTES (64u << 10)

/* Requests of one connection in flight; beyond, it is not read. Keeps one client from filling the
 * node's 8192 by itself. */
#define CONN_ANSWERS_MAX 1024u
#define CONN_ANSWERS_RESUME 512u
/* The same in bytes: no more requests are taken while the answers owed, each as large as the large
 * ones of late, come to this much; again at a half of it. */
#define CONN_OWED_BYTES_MAX (16u << 20)

/* After a last word (an error, "shutting down") the other side gets this long to read it. */
#define CONN_LINGER_MS 1000u
/* A frame's time limit grows with its size: a slow line may take a second per MiB. */
#define CONN_FRAME_MS_PER_MIB 1000u
/* While others wait for room for their large frame, whoever is behind that pace after this long is
 * ended: room is held for the length announced, and announcing costs nothing. */
#define CONN_LARGE_GRACE_MS 250u
/* Peers that vanish without a word: unacknowledged data after this means the link is gone (ms). */
#define CONN_USER_TIMEOUT_MS 5000u
#define CONN_KEEPALIVE_S 15

enum conn_state {
    CONN_CONNECTING = 1, /* dialled, not answered */
    CONN_OPEN,
    CONN_FINISHING, /* the last bytes are on their way; what comes in is thrown away */
    CONN_CLOSING    /* uv_close called; freed in its callback */
};

/* Why a connection is not read at the moment; bits. */
enum conn_hold {
    HOLD_OUT = 1,     /* CONN_OUT_PAUSE_BYTES */
    HOLD_ANSWERS = 2, /* CONN_ANSWERS_MAX, CONN_OWED_BYTES_MAX */
    HOLD_LARGE = 4    /* LOOP_LARGE_BYTES_MAX */
};

enum conn_verdict {
    CONN_NEXT = 0, /* the frame is dealt with */
    /* Not while c->large: then the connection is closed instead. */
    CONN_MOVE = 1,     /* on_move takes the socket, and the bytes after this frame */
    CONN_MOVE_WITH = 2 /* ... and this frame too */
};

struct conn_write;

struct conn_handler {
    /* Dialled connections: answered (0), or failed: on_closed follows. */
    void (*on_open)(struct conn *c);
    /* One frame; body is borrowed for the call. */
    enum conn_verdict (*on_frame)(struct conn *c, struct slice body);
    void (*on_move)(struct conn *c, struct slice unread);
    /* The stream is beyond repair, or its time is up: say so if there is a way (the connection is
     * finished afterwards). */
    void (*on_broken)(struct conn *c, int error, uint64_t limit, uint64_t actual);
    /* The last call: frees what embeds c. c->error and conn_why tell why. */
    void (*on_closed)(struct conn *c);
    bool idle_closes; /* idle_ms applies */
    bool pauses;      /* HOLD_OUT applies; not to links whose answers we must always take */
    bool peer;        /* keep-alive and user time-out */
    bool trusted;     /* LOOP_LARGE_BYTES_MAX is not for it: its clients' frames counted there */
};

struct conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
    };
    union {
        uv_connect_t connect;
        uv_shutdown_t shutdown;
    };
    struct loop *loop;
    const struct conn_handler *handler;
    uint64_t id;
    enum conn_state state;
    int error;    /* why it was closed: 0 by the other side, or a negative err */
    int os_error; /* the same as libuv's code, or 0 */
    uint8_t holds;
    bool reading, eof, shut;
    struct conn_write *writing; /* what the kernel did not take, or NULL; owned by its request */
    struct list all, dirty, resume, starved;

    struct buf in;      /* bytes not yet parsed: a partial small frame, or all while held */
    struct blob *large; /* the large frame being received, or NULL */
    size_t large_len;
    uint64_t large_ms; /* when it was begun */

    struct buf out;     /* packed, not yet given to the kernel */
    size_t unsent;      /* memory of what is unsent, as counted in loop.unsent_bytes */
    uint32_t n_answers; /* requests taken whose answer is owed */
    size_t answer_size; /* of the large answers of late: a maximum that fades */

    uint64_t active_ms;   /* last bytes in */
    uint64_t waited_ms;   /* while on_frame is called: the frame has lain here so long, at least */
    uint64_t frame_ms;    /* when the incomplete frame began; 0 = none */
    uint64_t progress_ms; /* the kernel last took bytes */
    size_t progress_left; /* what was left to write then */
    uint64_t must_ms;     /* closed when this comes (connect, hello, linger); 0 = never */
};

/* A connected socket becomes a connection; unread (may be empty) came from it before. Negative:
 * nothing was begun and the fd is closed. Otherwise on_closed comes at the end. c is zeroed. */
int conn_open(struct conn *c, struct loop *l, const struct conn_handler *handler, int fd,
              struct slice unread);
/* Starts to dial; must_ms: when it is given up unless the handler clears c->must_ms. As above. */
int conn_dial(struct conn *c, struct loop *l, const struct conn_handler *handler,
              const struct sockaddr *to, uint64_t must_ms);

/* Where to append frames, or NULL if nothing may be sent any more; then conn_sent. */
struct buf *conn_out(struct conn *c);
void conn_sent(struct conn *c);
/* Bytes not yet taken by the kernel. */
size_t conn_unsent(const struct conn *c);

/* A request was taken / answered, with that many bytes (also if they were refused). */
void conn_owe_answer(struct conn *c);
void conn_answered(struct conn *c, size_t size);
/* Whether an answer of that size may be appended; if not, say OVERLOADED. */
bool conn_takes_answer(const struct conn *c, size_t size);

/* Writes what is left, then closes politely within CONN_LINGER_MS. */
void conn_finish(struct conn *c);
void conn_close(struct conn *c, int error);
const char *conn_why(const struct conn *c);
/* A second descriptor of the socket, for another loop; -1 if there is none left. */
int conn_dup(const struct conn *c);

/* Called by the loop. */
void conn_flush(struct conn *c);
void conn_resume(struct conn *c);
void conn_sweep(struct conn *c, uint64_t now_ms);
/* While others wait: ends c if its large frame comes too slowly. */
void conn_sweep_large(struct conn *c, uint64_t now_ms);

#endif
