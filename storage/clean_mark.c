/* clean_mark: see clean_mark.h. */
#include "storage/clean_mark.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <stdio.h>
#include <unistd.h>

#include "storage/bytes.h"

#define MARK_PATH_MAX 4096
#define MARK_BYTES 32
#define MARK_CRC_OFFSET 28

static bool mark_path(const char *dir, char path[MARK_PATH_MAX])
{
    return snprintf(path, MARK_PATH_MAX, "%s/" CLEAN_MARK_NAME, dir) < MARK_PATH_MAX;
}

static uint32_t checksum(uint8_t *bytes)
{
    return ~crc32_iscsi(bytes, MARK_CRC_OFFSET, ~0u);
}

static bool sync_and_close(int fd)
{
    bool ok = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

static bool dir_sync(const char *dir)
{
    return sync_and_close(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

bool clean_mark_write(const char *dir, uint64_t log_id, const struct log_place *last)
{
    uint8_t bytes[MARK_BYTES];
    char path[MARK_PATH_MAX];
    bool whole;
    int fd;

    bytes_put_le(bytes, log_id, 8);
    bytes_put_le(bytes + 8, last->seq, 8);
    bytes_put_le(bytes + 16, last->offset, 8);
    bytes_put_le(bytes + 24, last->segment, 4);
    bytes_put_le(bytes + MARK_CRC_OFFSET, checksum(bytes), 4);
    fd = mark_path(dir, path) ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return false;
    whole = write(fd, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes);
    if (sync_and_close(fd) && whole)
        return dir_sync(dir);
    clean_mark_clear(dir);
    return false;
}

void clean_mark_read(const char *dir, uint64_t log_id, struct log_place *ret)
{
    uint8_t bytes[MARK_BYTES];
    char path[MARK_PATH_MAX];
    ssize_t n = 0;
    int fd = mark_path(dir, path) ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    *ret = (struct log_place){0};
    if (fd < 0)
        return;
    n = read(fd, bytes, sizeof(bytes));
    close(fd);
    if (n == (ssize_t)sizeof(bytes) && bytes_get_le(bytes, 8) == log_id &&
        bytes_get_le(bytes + MARK_CRC_OFFSET, 4) == checksum(bytes))
        *ret = (struct log_place){.seq = bytes_get_le(bytes + 8, 8),
                                  .offset = bytes_get_le(bytes + 16, 8),
                                  .segment = (uint32_t)bytes_get_le(bytes + 24, 4)};
}

bool clean_mark_clear(const char *dir)
{
    char path[MARK_PATH_MAX];

    if (!mark_path(dir, path) || (unlink(path) != 0 && errno != ENOENT))
        return false;
    return dir_sync(dir);
}
