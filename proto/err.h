/* err: the one table of error codes.
 *
 * Every failure that can cross a function, a process or a wire has one line here: its name, its
 * number on the wire, whether repeating the same request is sound and useful, and its sentence. In
 * C a failure is the negative number (`return -ERR_NO_SPACE`), 0 is success, and a positive return
 * is a documented outcome of that one function. Numbers are for ever: a retired one is never
 * reused.
 *
 * "retry" means: the request had no effect, or repeating it is harmless, and later it may succeed.
 * UNKNOWN_OUTCOME is deliberately not retryable: a write that may have been stored is the caller's
 * decision. "Not found" is a result and has no code.
 */
#ifndef QUOIT_PROTO_ERR_H
#define QUOIT_PROTO_ERR_H

#include <stdbool.h>

/* X(name, wire number, retryable, sentence) */
#define ERR_TABLE(X)                                                                               \
    X(INTERNAL, 1, false, "internal error: please report it with the node's log")                  \
    X(BAD_REQUEST, 2, false, "the request is malformed")                                           \
    X(UNSUPPORTED, 3, false, "this node does not know the request, or speaks another version")     \
    X(KEY_TOO_LARGE, 4, false, "the key is larger than the limit")                                 \
    X(KEY_EMPTY, 5, false, "the partition key is empty")                                           \
    X(VALUE_TOO_LARGE, 6, false, "the value is larger than the limit")                             \
    X(FRAME_TOO_LARGE, 7, false, "the message is larger than the limit")                           \
    X(UNKNOWN_BUCKET, 8, false, "there is no such bucket")                                         \
    X(OVERLOADED, 9, true, "the node has as many requests in flight as it takes")                  \
    X(TOO_MANY_CONNECTIONS, 10, true, "the node has as many connections as it takes")              \
    X(DEADLINE, 11, true, "the deadline passed; nothing was written")                              \
    X(UNKNOWN_OUTCOME, 12, false, "no quorum of answers in time: it may have been stored")         \
    X(NO_QUORUM, 13, true, "too few replicas are up; nothing was written")                         \
    X(NO_SPACE, 14, true, "out of space: writes are refused, reads and deletes work")              \
    X(CLOCK, 15, true, "the node's clock is not sure enough to order a write")                     \
    X(NOT_OWNER, 16, true, "the node does not own this slot")                                      \
    X(NOT_YET, 17, true, "the node does not know this version of the ring yet")                    \
    X(CORRUPT, 18, false, "the stored record fails its checksum")                                  \
    X(NOT_READY, 19, true, "no ring names the node yet: it starts, or waits to be added")          \
    X(SHUTTING_DOWN, 20, true, "the node is shutting down")                                        \
    X(WRONG_CLUSTER, 21, false, "the node belongs to another cluster")                             \
    X(STALE_BOOT, 22, false, "an older copy of this node's data directory has been started")       \
    X(NO_MEMORY, 23, true, "out of memory")                                                        \
    X(IO, 24, false, "the disk failed")                                                            \
    X(UNREACHABLE, 25, true, "no node answers")                                                    \
    X(CLOSED, 26, true, "the connection was closed")                                               \
    X(FORMAT, 27, false, "the data was written by a newer version")                                \
    X(IN_USE, 28, false, "the data directory is in use by another process")                        \
    X(CONFIG, 29, false, "the configuration is not valid")                                         \
    X(FULL, 30, true, "a bounded queue is full")                                                   \
    X(SLOW, 31, true, "the peer sends or reads too slowly")                                        \
    X(SUSPECT, 32, false, "the store saw a failed sync and is not to be trusted")

enum err {
    ERR_OK = 0,
#define ERR_ENUM(name, number, retry, text) ERR_##name = number,
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
};

/* All of these take a code of either sign; an unknown one reads as INTERNAL. */
const char *err_name(int code); /* "NO_SPACE"; static storage */
const char *err_text(int code); /* the sentence; static storage */
bool err_retryable(int code);
bool err_known(int code);

#endif
