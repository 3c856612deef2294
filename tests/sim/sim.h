/* sim: a cluster in one process, in virtual time, from one seed. README.md explains the model.
 *
 *   main     seeds, options, summary            client   requests, answers, histories
 *   world    time, dispatch, the run's phases   check    what must hold
 *   heap     events by time                     fault    what goes wrong, and heals
 *   node     the real workers and their edge    net      links between nodes
 *   disk     store_mem behind delays, and a shadow of what is durable
 *
 * Everything that happens is an item on one heap, ordered by (time, sequence number); everything
 * random comes from one generator. So the seed is the run. Times are microseconds since its start.
 */
#ifndef QUOIT_SIM_H
#define QUOIT_SIM_H

#include "server/base/prng.h"
#include "server/core/floor_facts.h"
#include "server/core/ring.h"
#include "server/core/worker.h"
#include "storage/store_mem.h"
#include "tests/sim/heap.h"

#define SIM_NODES_MAX 7u
#define SIM_WORKERS_MAX 3u
#define SIM_CLIENTS_MAX 6u
#define SIM_DEPTH_MAX 4u /* requests of one client under way */
#define SIM_KEYS_MAX 8u
#define SIM_PARTITIONS 64u
#define SIM_VALUE_MAX 600u
#define SIM_NEVER UINT64_MAX
#define SIM_RINGS_MAX 192u

#define MS 1000ull
#define SECOND (1000ull * MS)

/* What can go wrong. Each run draws a subset, so that faults do not drown each other. */
#define FAULT_TABLE(X)                                                                             \
    X(CRASH, "crash and restart")                                                                  \
    X(STOP, "orderly stop and restart")                                                            \
    X(LINK, "link broken, in-flight messages lost")                                                \
    X(PARTITION, "partition, both ways")                                                           \
    X(ONE_WAY, "partition, one way")                                                               \
    X(LOSS, "messages lost")                                                                       \
    X(DUPLICATE, "messages repeated")                                                              \
    X(REORDER, "messages overtake each other")                                                     \
    X(SLOW_NODE, "slow node")                                                                      \
    X(PAUSE, "paused node")                                                                        \
    X(SLOW_DISK, "slow syncs")                                                                     \
    X(SLOW_READ, "slow reads")                                                                     \
    X(ROT, "records that fail their checksum")                                                     \
    X(FULL, "full disk")                                                                           \
    X(SKEW, "clocks apart within the guard")                                                       \
    X(BAD_CLOCK, "clocks apart beyond the guard, jumps")                                           \
    X(RING, "new rings, known to some workers first")                                              \
    X(RUMOUR, "wrong rumours of who is there")                                                     \
    X(GONE, "clients that hang up")                                                                \
    X(TIGHT, "room for few requests")                                                              \
    X(MISROUTE, "requests through the wrong worker's link")

enum fault {
#define FAULT_ENUM(name, text) FAULT_##name,
    FAULT_TABLE(FAULT_ENUM)
#undef FAULT_ENUM
    N_FAULTS
};

/* What a run has seen; summed over runs. */
enum cover {
    COVER_ACKED,
    COVER_UNKNOWN,
    COVER_REFUSED,
    COVER_NO_QUORUM,
    COVER_DEADLINE,
    COVER_NO_SPACE,
    COVER_CLOCK,
    COVER_OVERLOADED,
    COVER_FOUND,
    COVER_NOT_FOUND,
    COVER_SCANNED,
    COVER_GATED,
    COVER_LOST_UNSYNCED,
    COVER_HEALED,
    COVER_PURGED,
    COVER_BELOW_FLOOR,
    COVER_ABSENT_BELOW,
    COVER_DROPPED,
    COVER_TRACE, /* + enum trace_type */
    N_COVERS = COVER_TRACE + 8
};

struct stats {
    uint64_t faults[N_FAULTS], covers[N_COVERS];
    uint64_t n_items, n_messages, n_requests;
};

/* ---- what happens ------------------------------------------------------------------------- */

enum item_type {
    ITEM_NONE,
    /* of a node's process: dropped if it has been restarted since, held while it is paused */
    ITEM_TICK,
    ITEM_MAIL,    /* a = sending worker, b = when it was sent, monotonic ms; bytes */
    ITEM_MESSAGE, /* a = link id, b = sending node << 8 | 1 if it is a request; bytes */
    ITEM_NODE_UP, /* a = node */
    ITEM_NODE_DOWN,
    ITEM_NODE_SEEN, /* a = node, b = enum wire_member_state */
    ITEM_RING,      /* a = index in world.rings */
    ITEM_READ,      /* read */
    ITEM_GOT,       /* read */
    ITEM_SYNC,      /* a = lsn */
    ITEM_REAP,
    ITEM_REFUSED, /* submit failed: a = cookie, b = error */
    ITEM_REQUEST, /* a = call; bytes */
    ITEM_GONE,    /* a = call */
    ITEM_STOPPED, /* look whether it has become idle */
    /* of the rest of the world */
    ITEM_START,   /* node */
    ITEM_CONNECT, /* node -> a */
    ITEM_TIMEOUT, /* link node -> a with id b: break if still blocked or paused */
    ITEM_ANSWER,  /* a = call; bytes */
    ITEM_CLOSED,  /* a = call: its connection broke */
    ITEM_LATE,    /* a = call: must have been answered */
    ITEM_CLIENT,  /* a = client */
    ITEM_PUBLISH, /* node learns of ring a */
    ITEM_FAULT    /* a = enum fault, b = 0 begin, 1 end; node: which, at the end */
};

/* ---- nodes ------------------------------------------------------------------------------- */

/* What of a write a node's store must know; kept beside the store, by the plain rules of versions.
 */
struct shadow {
    struct version current[SIM_KEYS_MAX], durable[SIM_KEYS_MAX];
    struct shadow_op {
        uint64_t lsn;
        uint32_t key;
        struct version version;
    } * ops; /* not durable yet, in LSN order */
    size_t n_ops, cap_ops;
};

struct disk {
    struct store *store;
    struct shadow shadow;
    bool syncing, near_full, full;
    bool rotten[SIM_KEYS_MAX]; /* the record of this key is corrupt */
    struct lost {              /* what was durable, until the record went bad and was healed */
        struct version version;
        uint64_t healed_us;
    } lost[SIM_KEYS_MAX];
    uint64_t purged[SIM_PARTITIONS]; /* floor up to which tombstones may be gone */
    uint64_t sync_us, read_us;       /* extra delay at most */
};

struct node {
    uint32_t index;
    struct wire_id id;
    char name[8];
    bool alive, stopping;
    uint32_t generation;
    uint64_t boot;
    uint32_t n_workers;
    struct worker *workers[SIM_WORKERS_MAX];
    uint64_t tick_us[SIM_WORKERS_MAX];
    uint64_t mail_us[SIM_WORKERS_MAX + 1][SIM_WORKERS_MAX]; /* last arrival; [0]: of control */
    bool reaping[SIM_WORKERS_MAX];
    uint64_t paused_us, slow_us;
    uint64_t disturbed_us;             /* when something last excused late answers */
    uint64_t wall_most_ms;             /* highest seen by this process */
    uint64_t stamp_most, stamp_before; /* highest hlc stamped; and by earlier processes */
    int64_t skew_ms;
    int32_t drift_ppm;
    uint32_t ring; /* newest known: index in world.rings */
    struct disk disk;
};

struct link {
    bool up, connecting;
    uint64_t id;
    uint64_t latency_us;
    uint64_t arrival_us[2][SIM_WORKERS_MAX][SIM_WORKERS_MAX]; /* last; [1]: of answers */
    struct item *held[2];                                     /* sent into a partition */
    size_t n_held[2];
};

/* ---- clients and their histories --------------------------------------------------------- */

enum call_status {
    CALL_PENDING,
    CALL_DONE,
    CALL_REFUSED,
    CALL_UNKNOWN
};

struct call {
    enum wire_op op;
    enum wire_level level;
    enum call_status status;
    uint32_t client, node, key;
    uint32_t generation; /* of the node */
    uint64_t start_us, deadline_us;
    struct version floor; /* newest version known to be at a quorum when it started */
    uint32_t n_stored;    /* stores that took its value */
    uint32_t partition;   /* scan */
    bool whole;           /* scan: one page for the partition */
    bool must_succeed;
};

struct client {
    uint64_t hlc;
    bool echoes, active;
    uint32_t n_open, depth;
    uint64_t pause_us;
};

/* A write, as some store was asked to keep it. */
struct written {
    struct version version;
    uint32_t key;
    bool deleted;
    uint64_t value; /* the call that wrote it, 0 for a deletion */
};

struct history {
    struct call *calls;
    size_t n_calls, cap_calls;
    struct written *written; /* open addressing by version and key */
    size_t n_written, cap_written;
    struct version floor[SIM_KEYS_MAX];     /* newest acknowledged or read at quorum */
    struct version tombstone[SIM_KEYS_MAX]; /* newest written */
};

/* ---- the world --------------------------------------------------------------------------- */

struct sim_options {
    uint64_t seed;
    uint32_t n_nodes; /* 0 = drawn */
    bool trace;
    bool purge; /* tombstones go in every run, not only in some */
};

struct world {
    struct sim_options options;
    struct prng prng;
    uint64_t now_us, hash;
    struct heap heap;
    struct stats stats;

    uint32_t n_nodes, replicas, n_clients, n_keys;
    uint64_t sync_us;      /* a healthy disk's sync takes this at most */
    uint32_t purge_age_ms; /* 0: tombstones stay */
    uint32_t compare_ms;   /* 0: replicas do not compare what they hold */
    struct node nodes[SIM_NODES_MAX];
    struct link links[SIM_NODES_MAX][SIM_NODES_MAX]; /* [from][to] */
    bool blocked[SIM_NODES_MAX][SIM_NODES_MAX];      /* bytes from -> to do not pass */
    uint64_t link_ids;
    struct ring *rings[SIM_RINGS_MAX];
    uint32_t n_rings;
    struct client clients[SIM_CLIENTS_MAX];
    struct history history;

    bool enabled[N_FAULTS], healed, demanding, storm;
    uint32_t loss, duplicate, reorder; /* per mille, now */
    bool rotten[SIM_KEYS_MAX];         /* some node has a corrupt record of the key */

    struct effects effects;
    struct arena arena;
    struct buf scratch;
    bool failed;
    char why[512];
};

/* 0 .. n - 1; true once in n; a time that is mostly short and sometimes close to most. */
uint64_t sim_below(struct world *w, uint64_t n);
bool sim_chance(struct world *w, uint32_t per_mille);
uint64_t sim_delay(struct world *w, uint64_t most);

void sim_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_push(struct world *w, uint64_t at_us, struct item item);

/* One run. False: something that must hold did not; why is filled. */
bool sim_run(const struct sim_options *options, struct stats *stats, uint64_t *ret_hash,
             uint64_t *ret_us, char why[512]);

void node_init(struct world *w, uint32_t index);
void node_deinit(struct world *w, struct node *n);
void node_start(struct world *w, struct node *n);
void node_crash(struct world *w, struct node *n);
void node_stop(struct world *w, struct node *n);
void node_item(struct world *w, struct node *n, struct item *item);
void node_step(struct world *w, struct node *n, uint32_t worker, struct event *in);
uint64_t node_mono_ms(const struct world *w, const struct node *n);
uint64_t node_wall_ms(const struct world *w, const struct node *n);
/* Control tells a worker something, in order. */
void node_tell(struct world *w, struct node *n, uint32_t worker, uint64_t delay_us,
               struct item item);
void node_publish(struct world *w, struct node *n, uint32_t ring);

void disk_init(struct world *w, struct node *n);
void disk_deinit(struct node *n);
void disk_crash(struct world *w, struct node *n, uint32_t n_workers);
void disk_submit(struct world *w, struct node *n, uint32_t worker, const struct store_op *ops,
                 size_t n_ops);
void disk_purge(struct world *w, struct node *n, uint32_t worker, const struct effect *e);
void disk_read(struct world *w, struct node *n, uint32_t worker, const struct effect *e);
/* Damages the record of a key, if there is one and it is on the disk. */
bool disk_rot(struct world *w, struct node *n, uint32_t key);
void disk_item(struct world *w, struct node *n, struct item *item);
void read_free(struct read *r);
void item_free(struct item *item);

void net_init(struct world *w);
void net_deinit(struct world *w);
void net_send(struct world *w, struct node *n, uint32_t worker, const struct addr *to,
              const struct wire_peer *msg);
void net_arrive(struct world *w, struct node *n, struct item *item);
/* Connects both ways with all others that are alive, and begins to try. */
void net_node_up(struct world *w, uint32_t node);
void net_node_down(struct world *w, uint32_t node);
void net_break(struct world *w, uint32_t from, uint32_t to, uint64_t detect_us);
void net_connect(struct world *w, uint32_t from, uint32_t to);
void net_timeout(struct world *w, uint32_t from, uint32_t to, uint64_t id);
void net_watch(struct world *w, uint32_t a, uint32_t b);
void net_block(struct world *w, uint32_t from, uint32_t to, bool blocked);

void client_init(struct world *w);
void client_act(struct world *w, uint32_t index);
void client_call(struct world *w, uint32_t client, struct call call);
void client_answer(struct world *w, struct item *item);
void client_closed(struct world *w, uint64_t id);
void client_late(struct world *w, uint64_t id);
/* Tells the clients of a node that has gone down. */
void client_lost_node(struct world *w, uint32_t node);
struct key client_key(uint32_t key, char text[16]);
int client_key_index(const struct world *w, const struct key *key);

/* The keys' partitions. */
uint32_t check_partition(const struct world *w, uint32_t key);
void check_started(struct world *w, struct call *c);
void check_stored(struct world *w, uint32_t node, const struct store_op *op, bool kept);
/* A node says something to another: its clock, its stamps. */
void check_message(struct world *w, const struct node *n, const struct wire_peer *msg);
/* A message had waited so long in a mailbox; so many were dropped for it. */
void check_waited(struct world *w, const struct node *n, const struct wire_peer *msg,
                  uint64_t waited_ms, uint64_t n_dropped);
/* A node is about to answer. */
void check_reply(struct world *w, const struct node *n, uint64_t id,
                 const struct wire_response *res);
/* The client has the answer. */
void check_answer(struct world *w, uint64_t id, const struct wire_response *res);
void check_idle(struct world *w);
void check_converged(struct world *w);

void fault_init(struct world *w);
void fault_item(struct world *w, struct item *item);
void fault_heal(struct world *w);
/* The first ring, and the next one: other fence versions, perhaps a joining slot. */
void fault_first_ring(struct world *w);
const char *fault_text(enum fault fault);

#endif
