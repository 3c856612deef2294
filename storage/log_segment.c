/* log_segment: making, finding, reading and writing the files log.000001, log.000002, ...
 *
 * A segment is made under another name and gets its own when it is whole:
 *
 *   log.000007.new   zeroes, step by step, each step synced     a crash leaves this: removed, made
 *        |                                                      again
 *        | rename, fsync of the directory
 *        v
 *   log.000007       all its blocks are allocated and written   groups may go into it
 *
 * So a file with a segment's name is always whole, and writing a group changes no metadata: its
 * sync is one write of the device. Zeroes are really written; blocks that are only reserved would
 * have to be converted by the file system at the first sync of each. Space is reserved in one call
 * first nevertheless: a full disk then says so before megabytes are written for nothing. (A file
 * system that copies on write allocates at each write whatever is done here; there, a full disk is
 * a failed write of the log.)
 *
 * The directory is synced whenever the log is opened: a process that died between rename and sync
 * leaves a name that this one sees and a power cut could still take away.
 *
 * Zeroes, and what recovery has read, are dropped from the page cache: nobody reads them again, and
 * a small write into a large folio of theirs would count as a write of all of it.
 *
 * Segments are never made smaller or removed: the log keeps the size that it once needed, at most
 * bytes_max. Reading goes through read, not through a map: a bad block is then an error and not a
 * signal.
 */
#include "storage/log_segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/err.h"

#define NAME_PREFIX "log."
#define NAME_NEW ".new"
#define NAME_DIGITS 6
#define ZERO_BYTES (256u << 10)

static const uint8_t zeroes[ZERO_BYTES];

static int explain_errno(char why[LOG_WHY_BYTES], const char *name, const char *what)
{
    int e = errno;

    snprintf(why, LOG_WHY_BYTES, "%.64s: cannot %.64s: %.64s", name, what, strerror(e));
    if (e == ENOMEM)
        return -ERR_NO_MEMORY;
    return e == ENOSPC || e == EDQUOT ? -ERR_NO_SPACE : -ERR_IO;
}

void log_segment_name(uint32_t number, char name[LOG_FILE_NAME_BYTES])
{
    snprintf(name, LOG_FILE_NAME_BYTES, NAME_PREFIX "%0*u", NAME_DIGITS, number);
}

static void new_name(uint32_t number, char name[LOG_FILE_NAME_BYTES])
{
    snprintf(name, LOG_FILE_NAME_BYTES, NAME_PREFIX "%0*u" NAME_NEW, NAME_DIGITS, number);
}

/* ---- finding ------------------------------------------------------------------------------ */

/* 0: not ours. */
static uint32_t parse_name(const char *name, bool *ret_new)
{
    char again[LOG_FILE_NAME_BYTES];
    unsigned long long number;
    char *end;

    if (strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)) != 0)
        return 0;
    number = strtoull(name + strlen(NAME_PREFIX), &end, 10);
    if (number == 0 || number > UINT32_MAX)
        return 0;
    *ret_new = strcmp(end, NAME_NEW) == 0;
    if (*ret_new)
        new_name((uint32_t)number, again);
    else
        log_segment_name((uint32_t)number, again);
    return strcmp(name, again) == 0 ? (uint32_t)number : 0;
}

static int by_number(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static int read_names(DIR *dir, uint32_t *numbers, size_t *n, char why[LOG_WHY_BYTES])
{
    const struct dirent *e;

    for (errno = 0; (e = readdir(dir)); errno = 0) {
        bool is_new;
        uint32_t number = parse_name(e->d_name, &is_new);

        if (number == 0)
            continue;
        if (is_new && unlinkat(dirfd(dir), e->d_name, 0) != 0)
            return explain_errno(why, e->d_name, "remove it (never finished)");
        if (is_new)
            continue;
        if (*n == LOG_SEGMENTS_MAX) {
            snprintf(why, LOG_WHY_BYTES, "more than %u segments", LOG_SEGMENTS_MAX);
            return -ERR_CORRUPT;
        }
        numbers[(*n)++] = number;
    }
    return errno ? explain_errno(why, ".", "read the directory") : 0;
}

int log_segment_list(int dir_fd, uint32_t **ret, size_t *ret_n, char why[LOG_WHY_BYTES])
{
    uint32_t *numbers = malloc(LOG_SEGMENTS_MAX * sizeof(*numbers));
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    size_t n = 0;
    int r;

    if (!numbers)
        r = -ERR_NO_MEMORY;
    else if (!dir)
        r = explain_errno(why, ".", "open the directory");
    else
        r = read_names(dir, numbers, &n, why);
    if (r == 0 && fsync(dir_fd) != 0)
        r = explain_errno(why, ".", "sync the directory");
    if (dir)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
    if (r < 0) {
        free(numbers);
        return r;
    }
    qsort(numbers, n, sizeof(*numbers), by_number);
    *ret = numbers;
    *ret_n = n;
    return 0;
}

static struct log_segment *segment_new(uint32_t number, int fd, uint64_t size)
{
    struct log_segment *s = malloc(sizeof(*s));

    if (s)
        *s = (struct log_segment){.number = number, .fd = fd, .size = size};
    return s;
}

int log_segment_open(int dir_fd, uint32_t number, struct log_segment **ret, char why[LOG_WHY_BYTES])
{
    char name[LOG_FILE_NAME_BYTES];
    struct stat st;
    int fd, r = 0;

    log_segment_name(number, name);
    fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return explain_errno(why, name, "open it");
    if (fstat(fd, &st) != 0) {
        r = explain_errno(why, name, "look at it");
    } else if (st.st_size < (off_t)LOG_SEGMENT_BYTES_MIN || st.st_size > (off_t)UINT32_MAX ||
               st.st_size % LOG_BLOCK_BYTES) {
        snprintf(why, LOG_WHY_BYTES, "%s: %lld bytes are no length of a segment: it was cut", name,
                 (long long)st.st_size);
        r = -ERR_CORRUPT;
    } else {
        *ret = segment_new(number, fd, (uint64_t)st.st_size);
        r = *ret ? 0 : -ERR_NO_MEMORY;
    }
    if (r < 0)
        close(fd);
    return r;
}

void log_segment_free(struct log_segment *s)
{
    if (!s)
        return;
    close(s->fd);
    free(s);
}

/* ---- making ------------------------------------------------------------------------------- */

static int write_zeroes(int fd, uint64_t from, uint64_t to)
{
    while (from < to) {
        size_t len = to - from < ZERO_BYTES ? (size_t)(to - from) : ZERO_BYTES;
        ssize_t n = pwrite(fd, zeroes, len, (off_t)from);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return -1;
        }
        from += (uint64_t)n;
    }
    return 0;
}

/* 0, 1: cancelled, or negative. */
static int fill(int fd, const char *name, uint64_t size, const atomic_bool *cancel,
                char why[LOG_WHY_BYTES])
{
    if (fallocate(fd, 0, 0, (off_t)size) != 0 && (errno == ENOSPC || errno == EDQUOT))
        return explain_errno(why, name, "reserve its space");
    for (uint64_t at = 0; at < size; at += LOG_STEP_BYTES) {
        uint64_t to = size - at < LOG_STEP_BYTES ? size : at + LOG_STEP_BYTES;

        if (cancel && atomic_load(cancel))
            return 1;
        if (write_zeroes(fd, at, to) != 0)
            return explain_errno(why, name, "write it");
        if (fdatasync(fd) != 0)
            return explain_errno(why, name, "sync it");
    }
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return 0;
}

static int put_in_place(int dir_fd, const char *from, const char *to, char why[LOG_WHY_BYTES])
{
    int r;

    if (renameat(dir_fd, from, dir_fd, to) != 0)
        return explain_errno(why, from, "rename it");
    if (fsync(dir_fd) == 0)
        return 0;
    /* Whole, but perhaps not there after a power cut: it goes again. */
    r = explain_errno(why, to, "sync its directory");
    unlinkat(dir_fd, to, 0);
    return r;
}

int log_segment_make(int dir_fd, uint32_t number, uint64_t size, const atomic_bool *cancel,
                     struct log_segment **ret, char why[LOG_WHY_BYTES])
{
    char from[LOG_FILE_NAME_BYTES], to[LOG_FILE_NAME_BYTES];
    struct log_segment *s;
    int fd, r;

    new_name(number, from);
    log_segment_name(number, to);
    fd = openat(dir_fd, from, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return explain_errno(why, from, "make it");
    s = segment_new(number, fd, size);
    r = s ? fill(fd, from, size, cancel, why) : -ERR_NO_MEMORY;
    if (r == 0)
        r = put_in_place(dir_fd, from, to, why);
    if (r == 0) {
        *ret = s;
        return 0;
    }
    unlinkat(dir_fd, from, 0);
    close(fd);
    free(s);
    return r;
}

/* ---- contents ----------------------------------------------------------------------------- */

/* Drops what was written from the front. */
static void advance(struct iovec **iov, size_t *n_iov, size_t written)
{
    while (*n_iov > 0 && written >= (*iov)->iov_len) {
        written -= (*iov)->iov_len;
        (*iov)++;
        (*n_iov)--;
    }
    if (written > 0) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + written;
        (*iov)->iov_len -= written;
    }
}

static int explain_write(const struct log_segment *s, uint64_t offset, const char *what,
                         const char *error, char why[LOG_WHY_BYTES])
{
    char name[LOG_FILE_NAME_BYTES];

    log_segment_name(s->number, name);
    snprintf(why, LOG_WHY_BYTES, "%s: cannot %s at byte %llu: %.64s", name, what,
             (unsigned long long)offset, error);
    return -ERR_IO;
}

int log_segment_write(const struct log_segment *s, struct iovec *iov, size_t n_iov, uint64_t offset,
                      char why[LOG_WHY_BYTES])
{
    uint64_t at = offset;

    while (n_iov > 0) {
        ssize_t n = pwritev(s->fd, iov, (int)n_iov, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return explain_write(s, at, "write", n == 0 ? "nothing was taken" : strerror(errno),
                                 why);
        at += (uint64_t)n;
        advance(&iov, &n_iov, (size_t)n);
    }
    if (fdatasync(s->fd) != 0)
        return explain_write(s, offset, "sync what was written", strerror(errno), why);
    return 0;
}

int log_segment_read(const struct log_segment *s, uint64_t offset, void *to, size_t len,
                     char why[LOG_WHY_BYTES])
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(s->fd, (uint8_t *)to + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return explain_write(s, offset + done, "read",
                                 n == 0 ? "the file ends there" : strerror(errno), why);
        done += (size_t)n;
    }
    return 0;
}
