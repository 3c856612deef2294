/* space: is there room for puts, and a reserve for what must go on when there is not. See space.c.
 */
#ifndef QUOIT_STORAGE_SPACE_H
#define QUOIT_STORAGE_SPACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SPACE_FS_FREE_PERCENT 15u
#define SPACE_FS_FREE_BYTES_MAX (4ull << 30)
#define SPACE_RESERVE_BYTES_MAX (64ull << 20)
#define SPACE_RESERVE_FS_PART 16u
/* A reserve that could not be made again is tried again after this. */
#define SPACE_RESERVE_RETRY_MS 1000u

struct space {
    char *dir;
    uint64_t map_bytes;
    bool reserve_held;
    uint64_t reserve_retry_ms; /* monotonic; not before */
    atomic_bool low;           /* any thread: puts are refused */
    _Atomic uint64_t room;     /* any thread: bytes that may be added before they are */
};

/* 0, -ERR_NO_MEMORY. */
int space_init(struct space *s, const char *dir, uint64_t map_bytes);
void space_deinit(struct space *s);

/* Size and free bytes of the file system under the store. 0 or -ERR_IO. Any thread. */
int space_of_fs(const struct space *s, uint64_t *ret_bytes, uint64_t *ret_free);

/* The rest: one thread. Looks at map and file system, sets `low`, makes the reserve again when
 * there is plenty. */
void space_refresh(struct space *s, uint64_t used_bytes);
/* Gives the reserve up. True if there was one. */
bool space_release_reserve(struct space *s);
/* The file system has not even `bytes` left. */
bool space_fs_is_full(const struct space *s, uint64_t bytes);

#endif
