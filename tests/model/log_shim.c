/* log_shim: symbols of the program take precedence over those of libc, so no preloading is needed
 * and sanitizers stay first. The real calls are made by syscall(). Both names of each call are
 * taken, since it depends on the compiler's flags which one the log was built with.
 */
#undef _FILE_OFFSET_BITS

#include "tests/model/log_shim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "storage/clean_mark.h"

#define PUBLIC __attribute__((visibility("default")))
#define PATH_BYTES 4096
#define DATA_NAME "data.mdb"

ssize_t pwrite64(int fd, const void *data, size_t len, int64_t offset);
ssize_t pwritev64(int fd, const struct iovec *iov, int n_iov, int64_t offset);
int fallocate(int fd, int mode, off_t offset, off_t len);
int fallocate64(int fd, int mode, int64_t offset, int64_t len);
int renameat(int from_fd, const char *from, int to_fd, const char *to);

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct log_shim_journal *journal;
    char dir[PATH_BYTES];
    enum log_shim_kind fail_kind;
    unsigned fail_in; /* calls until then; 0: none */
    int fail_errno;
    bool fail_forever, has_failed;
    bool hold, held;
    unsigned hold_after; /* so many of the kind pass first */
    enum log_shim_kind hold_kind;
    bool lose_log, lose_data;
} shim = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static bool is_ours(const char *name)
{
    return strncmp(name, "log.", 4) == 0 || strcmp(name, DATA_NAME) == 0 ||
           strcmp(name, CLEAN_MARK_NAME) == 0;
}

/* The name of a file of ours, or "." for a directory (of whatever name); false: neither. */
static bool name_of(int fd, char name[LOG_SHIM_NAME_BYTES], char dir[PATH_BYTES])
{
    char link[64], path[PATH_BYTES], *slash;
    const char *found = ".";
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    if (n < 0)
        return false;
    path[n] = 0;
    slash = strrchr(path, '/');
    if (slash && is_ours(slash + 1) && strlen(slash) < LOG_SHIM_NAME_BYTES) {
        found = slash + 1;
        *slash = 0;
    }
    snprintf(name, LOG_SHIM_NAME_BYTES, "%s", found);
    memcpy(dir, path, sizeof(path));
    return true;
}

static bool is_file(const char *name)
{
    return name[0] != '.';
}

static bool is_data(const char *name)
{
    return strcmp(name, DATA_NAME) == 0;
}

static bool is_clean_mark(const char *name)
{
    return strcmp(name, CLEAN_MARK_NAME) == 0;
}

static enum log_shim_kind data_kind(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_DSYNC) ? LOG_SHIM_META : LOG_SHIM_DATA;
}

/* Whether this call is to fail. *ret_errno 0: by half. */
static bool fails(enum log_shim_kind kind, int *ret_errno)
{
    bool yes = false;

    pthread_mutex_lock(&shim.lock);
    if (shim.fail_in && kind == shim.fail_kind) {
        if (shim.fail_in > 1)
            shim.fail_in--;
        else
            yes = shim.has_failed = true;
        if (yes && !shim.fail_forever)
            shim.fail_in = 0;
        *ret_errno = shim.fail_errno;
    }
    pthread_mutex_unlock(&shim.lock);
    return yes;
}

static struct log_shim_event *record(enum log_shim_kind kind, const char *dir, const char *name,
                                     uint64_t offset, const void *data, size_t len)
{
    struct log_shim_journal *j = shim.journal;
    struct log_shim_event *e;

    if (!j || (dir && strcmp(dir, shim.dir) != 0))
        return NULL;
    if (j->n == j->cap) {
        j->cap = j->cap ? 2 * j->cap : 256;
        j->events = realloc(j->events, j->cap * sizeof(*j->events));
    }
    e = &j->events[j->n++];
    *e = (struct log_shim_event){.kind = kind, .offset = offset, .len = len};
    snprintf(e->name, sizeof(e->name), "%s", name);
    e->data = len ? malloc(len) : NULL;
    if (len)
        memcpy(e->data, data, len);
    return e;
}

/* Recorded in the order in which it is done. */
static ssize_t do_write(enum log_shim_kind kind, int fd, const void *data, size_t len,
                        int64_t offset)
{
    char name[LOG_SHIM_NAME_BYTES], dir[PATH_BYTES];
    int e = 0;
    ssize_t n;

    if (!name_of(fd, name, dir) || !is_file(name))
        return syscall(SYS_pwrite64, fd, data, len, offset);
    if (is_data(name))
        kind = data_kind(fd);
    if (fails(kind, &e)) {
        if (e) {
            errno = e;
            return -1;
        }
        len = (len + 1) / 2;
    }
    pthread_mutex_lock(&shim.lock);
    n = syscall(SYS_pwrite64, fd, data, len, offset);
    if (kind == LOG_SHIM_META && shim.lose_data)
        kind = LOG_SHIM_DATA;
    if (n > 0)
        record(kind, dir, name, (uint64_t)offset, data, (size_t)n);
    pthread_mutex_unlock(&shim.lock);
    return n;
}

PUBLIC ssize_t pwrite64(int fd, const void *data, size_t len, int64_t offset)
{
    return do_write(LOG_SHIM_ZERO, fd, data, len, offset);
}

PUBLIC ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    return do_write(LOG_SHIM_ZERO, fd, data, len, offset);
}

PUBLIC ssize_t pwritev64(int fd, const struct iovec *iov, int n_iov, int64_t offset)
{
    size_t len = 0, at = 0;
    uint8_t *all;
    ssize_t n;

    for (int i = 0; i < n_iov; i++)
        len += iov[i].iov_len;
    all = malloc(len);
    for (int i = 0; i < n_iov; at += iov[i++].iov_len)
        memcpy(all + at, iov[i].iov_base, iov[i].iov_len);
    n = do_write(LOG_SHIM_GROUP, fd, all, len, offset);
    free(all);
    return n;
}

PUBLIC ssize_t pwritev(int fd, const struct iovec *iov, int n_iov, off_t offset)
{
    return pwritev64(fd, iov, n_iov, offset);
}

/* LMDB's way to write pages that lie side by side; at the descriptor's position. */
PUBLIC ssize_t writev(int fd, const struct iovec *iov, int n_iov)
{
    char name[LOG_SHIM_NAME_BYTES], dir[PATH_BYTES];
    off_t offset;
    ssize_t n;

    if (!name_of(fd, name, dir) || !is_data(name))
        return syscall(SYS_writev, fd, iov, n_iov);
    offset = (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
    n = pwritev64(fd, iov, n_iov, offset);
    if (n > 0)
        syscall(SYS_lseek, fd, offset + n, SEEK_SET);
    return n;
}

/* How the clean mark is written, which is new then. */
PUBLIC ssize_t write(int fd, const void *data, size_t len)
{
    char name[LOG_SHIM_NAME_BYTES], dir[PATH_BYTES];
    ssize_t n;

    if (!name_of(fd, name, dir) || !is_clean_mark(name))
        return syscall(SYS_write, fd, data, len);
    pthread_mutex_lock(&shim.lock);
    n = syscall(SYS_write, fd, data, len);
    if (n > 0)
        record(LOG_SHIM_CLEAN, dir, name, 0, data, (size_t)n);
    pthread_mutex_unlock(&shim.lock);
    return n;
}

/* How it is taken away. */
PUBLIC int unlink(const char *path)
{
    char dir[PATH_BYTES];
    const char *slash = strrchr(path, '/');
    int r;

    if (!slash || !is_clean_mark(slash + 1))
        return (int)syscall(SYS_unlink, path);
    snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
    pthread_mutex_lock(&shim.lock);
    r = (int)syscall(SYS_unlink, path);
    if (r == 0)
        record(LOG_SHIM_UNLINK, dir, slash + 1, 0, NULL, 0);
    pthread_mutex_unlock(&shim.lock);
    return r;
}

static void hold_if_told(enum log_shim_kind kind)
{
    pthread_mutex_lock(&shim.lock);
    if (shim.hold && shim.hold_kind == kind && shim.hold_after > 0) {
        shim.hold_after--;
    } else if (shim.hold && shim.hold_kind == kind) {
        shim.held = true;
        pthread_cond_broadcast(&shim.changed);
        while (shim.hold)
            pthread_cond_wait(&shim.changed, &shim.lock);
        shim.held = false;
    }
    pthread_mutex_unlock(&shim.lock);
}

static enum log_shim_kind sync_kind(const char *name)
{
    if (!is_file(name))
        return LOG_SHIM_DIR_SYNC;
    if (is_data(name))
        return LOG_SHIM_DATA_SYNC;
    if (is_clean_mark(name))
        return LOG_SHIM_CLEAN;
    return strstr(name, ".new") ? LOG_SHIM_SYNC_NEW : LOG_SHIM_SYNC;
}

static int do_sync(int fd, long number)
{
    char name[LOG_SHIM_NAME_BYTES], dir[PATH_BYTES];
    int e = 0, r;

    if (!name_of(fd, name, dir))
        return (int)syscall(number, fd);
    if (fails(sync_kind(name), &e)) {
        errno = e;
        return -1;
    }
    hold_if_told(sync_kind(name));
    if ((sync_kind(name) == LOG_SHIM_SYNC && shim.lose_log) || (is_data(name) && shim.lose_data))
        return 0;
    pthread_mutex_lock(&shim.lock);
    r = (int)syscall(number, fd);
    if (r == 0)
        record(is_file(name) ? LOG_SHIM_SYNC : LOG_SHIM_DIR_SYNC, dir, name, 0, NULL, 0);
    pthread_mutex_unlock(&shim.lock);
    return r;
}

PUBLIC int fdatasync(int fd)
{
    return do_sync(fd, SYS_fdatasync);
}

PUBLIC int fsync(int fd)
{
    return do_sync(fd, SYS_fsync);
}

PUBLIC int fallocate64(int fd, int mode, int64_t offset, int64_t len)
{
    int e = 0;

    if (fails(LOG_SHIM_RESERVE, &e)) {
        errno = e;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

PUBLIC int fallocate(int fd, int mode, off_t offset, off_t len)
{
    return fallocate64(fd, mode, offset, len);
}

static bool is_ours_at(int dir_fd, const char *name, char dir[PATH_BYTES])
{
    char ignored[LOG_SHIM_NAME_BYTES];

    return strncmp(name, "log.", 4) == 0 && name_of(dir_fd, ignored, dir);
}

PUBLIC int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    char dir[PATH_BYTES];
    int e = 0, r;

    if (!is_ours_at(from_fd, from, dir))
        return (int)syscall(SYS_renameat, from_fd, from, to_fd, to);
    if (fails(LOG_SHIM_RENAME, &e)) {
        errno = e;
        return -1;
    }
    pthread_mutex_lock(&shim.lock);
    r = (int)syscall(SYS_renameat, from_fd, from, to_fd, to);
    if (r == 0)
        record(LOG_SHIM_RENAME, dir, from, 0, to, strlen(to) + 1);
    pthread_mutex_unlock(&shim.lock);
    return r;
}

PUBLIC int unlinkat(int dir_fd, const char *name, int flags)
{
    char dir[PATH_BYTES];
    int e = 0, r;

    if (!is_ours_at(dir_fd, name, dir))
        return (int)syscall(SYS_unlinkat, dir_fd, name, flags);
    if (fails(LOG_SHIM_UNLINK, &e)) {
        errno = e;
        return -1;
    }
    pthread_mutex_lock(&shim.lock);
    r = (int)syscall(SYS_unlinkat, dir_fd, name, flags);
    if (r == 0)
        record(LOG_SHIM_UNLINK, dir, name, 0, NULL, 0);
    pthread_mutex_unlock(&shim.lock);
    return r;
}

void log_shim_record(struct log_shim_journal *journal, const char *dir)
{
    pthread_mutex_lock(&shim.lock);
    shim.journal = journal;
    snprintf(shim.dir, sizeof(shim.dir), "%s", dir ? dir : "");
    pthread_mutex_unlock(&shim.lock);
}

void log_shim_mark(uint64_t kind, uint64_t number)
{
    struct log_shim_event *e;

    pthread_mutex_lock(&shim.lock);
    e = record(LOG_SHIM_MARK, NULL, "", kind, NULL, 0);
    if (e)
        e->number = number;
    pthread_mutex_unlock(&shim.lock);
}

void log_shim_journal_deinit(struct log_shim_journal *journal)
{
    for (size_t i = 0; i < journal->n; i++)
        free(journal->events[i].data);
    free(journal->events);
    *journal = (struct log_shim_journal){0};
}

void log_shim_fail(enum log_shim_kind kind, unsigned k, int error_number, bool forever)
{
    pthread_mutex_lock(&shim.lock);
    shim.fail_kind = kind;
    shim.fail_in = k;
    shim.fail_errno = error_number;
    shim.fail_forever = forever;
    shim.has_failed = false;
    pthread_mutex_unlock(&shim.lock);
}

void log_shim_heal(void)
{
    pthread_mutex_lock(&shim.lock);
    shim.fail_in = 0;
    pthread_mutex_unlock(&shim.lock);
}

bool log_shim_has_failed(void)
{
    bool b;

    pthread_mutex_lock(&shim.lock);
    b = shim.has_failed;
    pthread_mutex_unlock(&shim.lock);
    return b;
}

static void hold(enum log_shim_kind kind, unsigned after)
{
    pthread_mutex_lock(&shim.lock);
    shim.hold = true;
    shim.hold_after = after;
    shim.hold_kind = kind;
    pthread_mutex_unlock(&shim.lock);
}

void log_shim_hold_sync(void)
{
    hold(LOG_SHIM_SYNC, 0);
}

void log_shim_hold_data_sync(unsigned after)
{
    hold(LOG_SHIM_DATA_SYNC, after);
}

void log_shim_lose_syncs(bool of_log, bool of_data)
{
    pthread_mutex_lock(&shim.lock);
    shim.lose_log = of_log;
    shim.lose_data = of_data;
    pthread_mutex_unlock(&shim.lock);
}

void log_shim_wait_held(void)
{
    pthread_mutex_lock(&shim.lock);
    while (!shim.held)
        pthread_cond_wait(&shim.changed, &shim.lock);
    pthread_mutex_unlock(&shim.lock);
}

void log_shim_let_go(void)
{
    pthread_mutex_lock(&shim.lock);
    shim.hold = false;
    pthread_cond_broadcast(&shim.changed);
    pthread_mutex_unlock(&shim.lock);
}
