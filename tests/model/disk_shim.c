/* disk_shim: symbols of the program take precedence over those of libc, also for the libraries it
 * is linked with, so no preloading is needed and sanitizers stay first. The real calls are made by
 * syscall().
 *
 * A write through an O_DSYNC descriptor counts as synced by itself, and only itself: what ordinary
 * writes left behind still waits for a sync of the file.
 */
/* With it the headers would rename pwrite to pwrite64, and the library under test calls pwrite. */
#undef _FILE_OFFSET_BITS

#include "tests/model/disk_shim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

static struct {
    pthread_mutex_t lock;
    const char *path_end;
    struct shim_journal *journal;
    enum shim_kind fail_kind;
    unsigned fail_in; /* calls until then; 0: none */
    int fail_errno;
    bool fail_short, has_failed;
} shim = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool is_watched(int fd)
{
    char link[64], path[4096];
    ssize_t n;
    size_t end;

    if (!shim.path_end)
        return false;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    if (n < 0)
        return false;
    path[n] = 0;
    end = strlen(shim.path_end);
    return (size_t)n >= end && strcmp(path + n - end, shim.path_end) == 0;
}

static enum shim_kind write_kind(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_DSYNC) ? SHIM_WRITE_SYNC : SHIM_WRITE;
}

/* Whether this call is the one to fail. */
static bool is_its_turn(enum shim_kind kind)
{
    bool fails = false;

    pthread_mutex_lock(&shim.lock);
    if (shim.fail_in && kind == shim.fail_kind && --shim.fail_in == 0)
        fails = shim.has_failed = true;
    pthread_mutex_unlock(&shim.lock);
    return fails;
}

static void record(enum shim_kind kind, uint64_t offset, const void *data, size_t len)
{
    struct shim_journal *j;
    struct shim_event *e;

    pthread_mutex_lock(&shim.lock);
    j = shim.journal;
    if (j && j->n == j->cap) {
        j->cap = j->cap ? 2 * j->cap : 256;
        j->events = realloc(j->events, j->cap * sizeof(*j->events));
    }
    if (j) {
        e = &j->events[j->n++];
        *e = (struct shim_event){.kind = kind, .offset = offset, .len = len};
        e->data = len ? malloc(len) : NULL;
        if (len)
            memcpy(e->data, data, len);
    }
    pthread_mutex_unlock(&shim.lock);
}

static ssize_t real_pwrite(int fd, const void *data, size_t len, off_t offset)
{
    return syscall(SYS_pwrite64, fd, data, len, offset);
}

static ssize_t shim_pwrite(int fd, const void *data, size_t len, off_t offset)
{
    enum shim_kind kind = write_kind(fd);
    ssize_t n;

    if (is_its_turn(kind)) {
        if (!shim.fail_short) {
            errno = shim.fail_errno;
            return -1;
        }
        len /= 2;
    }
    n = real_pwrite(fd, data, len, offset);
    if (n > 0)
        record(kind, (uint64_t)offset, data, (size_t)n);
    return n;
}

static int shim_sync(int fd, long number)
{
    int r;

    if (is_its_turn(SHIM_SYNC)) {
        errno = shim.fail_errno;
        return -1;
    }
    r = (int)syscall(number, fd);
    if (r == 0)
        record(SHIM_SYNC, 0, NULL, 0);
    return r;
}

PUBLIC ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    return is_watched(fd) ? shim_pwrite(fd, data, len, offset) : real_pwrite(fd, data, len, offset);
}

/* Gathered into one write, at the descriptor's position. */
PUBLIC ssize_t writev(int fd, const struct iovec *iov, int n_iov)
{
    size_t len = 0, at = 0;
    uint8_t *all;
    off_t offset;
    ssize_t n;

    if (!is_watched(fd))
        return syscall(SYS_writev, fd, iov, n_iov);
    for (int i = 0; i < n_iov; i++)
        len += iov[i].iov_len;
    all = malloc(len);
    for (int i = 0; i < n_iov; at += iov[i++].iov_len)
        memcpy(all + at, iov[i].iov_base, iov[i].iov_len);
    offset = lseek(fd, 0, SEEK_CUR);
    n = shim_pwrite(fd, all, len, offset);
    if (n > 0)
        lseek(fd, offset + n, SEEK_SET);
    free(all);
    return n;
}

PUBLIC int ftruncate(int fd, off_t size)
{
    int r = (int)syscall(SYS_ftruncate, fd, size);

    if (r == 0 && is_watched(fd))
        record(SHIM_TRUNCATE, (uint64_t)size, NULL, 0);
    return r;
}

PUBLIC int fdatasync(int fd)
{
    return is_watched(fd) ? shim_sync(fd, SYS_fdatasync) : (int)syscall(SYS_fdatasync, fd);
}

PUBLIC int fsync(int fd)
{
    return is_watched(fd) ? shim_sync(fd, SYS_fsync) : (int)syscall(SYS_fsync, fd);
}

/* The store maps its file for reading only: a sync of the map would be a surprise. */
PUBLIC int msync(void *addr, size_t len, int flags)
{
    if (shim.journal) {
        fprintf(stderr, "disk_shim: msync was called\n");
        abort();
    }
    return (int)syscall(SYS_msync, addr, len, flags);
}

void shim_watch(const char *path_end)
{
    shim.path_end = path_end;
}

void shim_record(struct shim_journal *journal)
{
    pthread_mutex_lock(&shim.lock);
    shim.journal = journal;
    pthread_mutex_unlock(&shim.lock);
}

void shim_mark(uint64_t number)
{
    record(SHIM_MARK, number, NULL, 0);
}

void shim_journal_deinit(struct shim_journal *journal)
{
    for (size_t i = 0; i < journal->n; i++)
        free(journal->events[i].data);
    free(journal->events);
    *journal = (struct shim_journal){0};
}

void shim_fail(enum shim_kind kind, unsigned k, int error_number, bool short_write)
{
    pthread_mutex_lock(&shim.lock);
    shim.fail_kind = kind;
    shim.fail_in = k;
    shim.fail_errno = error_number;
    shim.fail_short = short_write;
    shim.has_failed = false;
    pthread_mutex_unlock(&shim.lock);
}

bool shim_has_failed(void)
{
    bool b;

    pthread_mutex_lock(&shim.lock);
    b = shim.has_failed;
    pthread_mutex_unlock(&shim.lock);
    return b;
}
