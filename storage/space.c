/* space: full disks are ordinary. Puts are refused early, so that deletes, small facts, and
 * whatever an operator does to make room still work.
 *
 *   map          |=========================== puts ==========================|  85 %  | the rest |
 *   file system  |=== puts ===| min(15 %, 4 GiB) free: deletes, facts | reserve file, given up last
 * |
 *
 * The reserve is a file of min(64 MiB, 1/16 of the file system), allocated, never read. When even a
 * delete meets ENOSPC it is removed and the transaction repeated; it is made again once the file
 * system has room for it and for puts. A file system that cannot allocate ahead (EOPNOTSUPP) has no
 * reserve: the margin alone has to do.
 *
 * Free means what an unprivileged process may use, the same number df shows.
 */
#include "storage/space.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "proto/err.h"
#include "storage/store.h"

#define RESERVE_NAME "reserve"
#define RESERVE_PATH_MAX 4096

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t free_bytes_wanted(uint64_t fs_bytes)
{
    return min_u64(fs_bytes / 100 * SPACE_FS_FREE_PERCENT, SPACE_FS_FREE_BYTES_MAX);
}

static uint64_t reserve_bytes(uint64_t fs_bytes)
{
    return min_u64(fs_bytes / SPACE_RESERVE_FS_PART, SPACE_RESERVE_BYTES_MAX);
}

static bool reserve_path(const struct space *s, char path[RESERVE_PATH_MAX])
{
    return snprintf(path, RESERVE_PATH_MAX, "%s/" RESERVE_NAME, s->dir) < RESERVE_PATH_MAX;
}

static bool is_allocated(int fd, uint64_t bytes)
{
    struct stat st;

    return fstat(fd, &st) == 0 && (uint64_t)st.st_size >= bytes &&
           (uint64_t)st.st_blocks * 512 >= bytes;
}

/* A reserve left by an earlier process is taken over if its blocks are really there. */
static bool reserve_make(const struct space *s, uint64_t bytes)
{
    char path[RESERVE_PATH_MAX];
    int fd;
    bool ok;

    if (!reserve_path(s, path))
        return false;
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    ok = is_allocated(fd, bytes) || fallocate(fd, 0, 0, (off_t)bytes) == 0;
    close(fd);
    if (!ok)
        unlink(path);
    return ok;
}

int space_init(struct space *s, const char *dir, uint64_t map_bytes)
{
    *s = (struct space){.dir = strdup(dir), .map_bytes = map_bytes};
    return s->dir ? 0 : -ERR_NO_MEMORY;
}

void space_deinit(struct space *s)
{
    free(s->dir);
    s->dir = NULL;
}

int space_of_fs(const struct space *s, uint64_t *ret_bytes, uint64_t *ret_free)
{
    struct statvfs v;

    if (statvfs(s->dir, &v) != 0)
        return -ERR_IO;
    *ret_bytes = (uint64_t)v.f_blocks * v.f_frsize;
    *ret_free = (uint64_t)v.f_bavail * v.f_frsize;
    return 0;
}

static void reserve_refresh(struct space *s, uint64_t fs_bytes, uint64_t *fs_free)
{
    uint64_t bytes = reserve_bytes(fs_bytes), now;

    if (s->reserve_held || bytes == 0 || *fs_free < 2 * bytes)
        return;
    now = now_ms();
    if (now < s->reserve_retry_ms)
        return;
    s->reserve_held = reserve_make(s, bytes);
    s->reserve_retry_ms = now + SPACE_RESERVE_RETRY_MS;
    space_of_fs(s, &fs_bytes, fs_free);
}

static uint64_t above(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

void space_refresh(struct space *s, uint64_t used_bytes)
{
    uint64_t fs_bytes, fs_free, wanted, in_fs;
    uint64_t room = above(s->map_bytes / 100 * STORE_SPACE_PERCENT + 1, used_bytes);

    /* A file system that cannot be asked is not a reason to refuse: the write itself will tell. */
    if (space_of_fs(s, &fs_bytes, &fs_free) == 0) {
        reserve_refresh(s, fs_bytes, &fs_free);
        wanted = free_bytes_wanted(fs_bytes) + (s->reserve_held ? 0 : reserve_bytes(fs_bytes));
        in_fs = above(fs_free + 1, wanted);
        room = in_fs < room ? in_fs : room;
    }
    atomic_store_explicit(&s->room, room, memory_order_relaxed);
    atomic_store_explicit(&s->low, room == 0, memory_order_relaxed);
}

bool space_release_reserve(struct space *s)
{
    char path[RESERVE_PATH_MAX];

    s->reserve_held = false;
    s->reserve_retry_ms = now_ms() + SPACE_RESERVE_RETRY_MS;
    return reserve_path(s, path) && unlink(path) == 0;
}

bool space_fs_is_full(const struct space *s, uint64_t bytes)
{
    uint64_t fs_bytes, fs_free;

    return space_of_fs(s, &fs_bytes, &fs_free) == 0 && fs_free < bytes;
}
