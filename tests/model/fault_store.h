/* fault_store: a real store driven from a process that may die, and the data to check it with.
 *
 * Keys are numbers, versions are numbers, and the value of a version follows from both, so whoever
 * finds a version knows the value it must have. In a child process nothing here calls cmocka: what
 * goes wrong ends in an exit status.
 */
#ifndef QUOIT_TESTS_MODEL_FAULT_STORE_H
#define QUOIT_TESTS_MODEL_FAULT_STORE_H

#include <semaphore.h>
#include <sys/types.h>

#include "tests/model/store_rig.h"

#define FAULT_VALUE_MAX 9000u
#define FAULT_MAP_BYTES (64ull << 20)
#define FAULT_QUEUES_MAX 8u

/* How a child ends, besides 0 and by signal. */
enum fault_exit {
    FAULT_EXIT_SENTENCE = 1,  /* config.fatal, or the fault guard: said why and stopped */
    FAULT_EXIT_LOST = 3,      /* something acknowledged is not there */
    FAULT_EXIT_OPEN_IO = 4,   /* open said -ERR_IO */
    FAULT_EXIT_OPEN = 5,      /* open said something else */
    FAULT_EXIT_WRONG = 6,     /* a value that was never written */
    FAULT_EXIT_UNEXPECTED = 7 /* an answer that must not be */
};

/* Which engine is opened, and how. Small tables and a small log: what happens once in a while in
 * life (freezing, slices, segments used again) happens all the time. */
struct fault_engine {
    bool log;              /* the store with a log; otherwise the plain one */
    bool log_beside;       /* its files lie in the store's directory itself */
    uint64_t tables_bytes; /* of the store with a log, like all below */
    uint32_t segment_bytes;
    uint64_t log_bytes_max;
    uint32_t slice_records; /* 0: the default */
    uint32_t n_workers, n_owners;
    bool few_zones; /* keys lie in FAULT_ZONES arcs, so that each has many */
};

#define FAULT_ZONES 16u

extern struct fault_engine fault_engine;
/* Takes "log" off the front of the arguments. */
void fault_main(int *argc, char ***argv);

struct fault_store {
    struct store *s;
    sem_t woken; /* posted by notify */
    uint32_t n_queues;
    /* Reaped while room was waited for. */
    struct store_done *stash;
    size_t n_stash, cap_stash;
};

/* Faults are guarded against once a store is open. */
extern bool fault_guarded;

/* What the engine's open says. config.fatal prints the sentence and exits with FAULT_EXIT_SENTENCE.
 */
int fault_store_open(struct fault_store *f, const char *dir, uint64_t map_bytes,
                     bool accept_suspect, char why[STORE_WHY_BYTES]);
void fault_store_close(struct fault_store *f);
/* The queue that a token belongs to. All queues are driven by the test's one thread. */
uint32_t fault_queue(uint64_t token);
/* Operations of one queue; waits as long as the store is FULL. */
int fault_store_submit(struct fault_store *f, uint32_t queue, const struct store_op *ops, size_t n);
/* Waits for at least one outcome, of any queue. */
size_t fault_store_reap(struct fault_store *f, struct store_done *out, size_t max);
/* Submits one operation and waits for it; its error. */
int fault_store_do(struct fault_store *f, const struct store_op *op);

/* A put of key i at a version; name and bytes hold what it borrows. The cookie is fault_mark(). */
struct store_op fault_put(unsigned i, uint64_t hlc, char name[16], uint8_t bytes[FAULT_VALUE_MAX]);
struct slice fault_value(unsigned i, uint64_t hlc, uint8_t bytes[FAULT_VALUE_MAX]);

/* "Key i is acknowledged at version hlc" as one number. */
static inline uint64_t fault_mark(unsigned i, uint64_t hlc)
{
    return (uint64_t)i << 32 | hlc;
}

uint64_t fault_token(unsigned i);

/* Counts and leaves of all tokens are those that a scan adds up: 0, or an exit status and a
 * sentence. */
int fault_check_sums(struct store *s, char what[128]);

/* Looks up key i: 0 if it is there at `acked` or newer with the right value (acked 0: or absent),
 * otherwise an exit status, and a sentence in what. */
int fault_check(struct store *s, unsigned i, uint64_t acked, char what[128]);

/* The newest acknowledged version per key. */
struct fault_acks {
    uint64_t *hlc;
    unsigned n_keys;
    size_t n; /* acknowledgements seen */
};

void fault_acks_add(struct fault_acks *acks, uint64_t mark);

/* A child that runs run(arg, fd) and writes a mark (u64) to fd for each acknowledgement. */
struct fault_child {
    pid_t pid;
    int fd;
};

struct fault_child fault_child_start(void (*run)(const void *arg, int fd), const void *arg);
/* Reads marks until n have come (SIZE_MAX: until the child has gone). False: it has gone. */
bool fault_child_read(struct fault_child *c, struct fault_acks *acks, size_t n);
/* The rest of its marks, then how it ended: as waitpid's status. */
int fault_child_end(struct fault_child *c, struct fault_acks *acks);
/* Child: reports one. */
void fault_report(int fd, uint64_t mark);

#endif
