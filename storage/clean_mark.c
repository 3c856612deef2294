/* clean_mark: see clean_mark.h. */
#include "storage/clean_mark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "storage/bytes.h"
#include "storage/record.h"
#include "storage/store_dir.h"

#define MARK_PATH_MAX 4096
#define MARK_VALUE_BYTES 28
#define MARK_BYTES (FACT_HEADER_BYTES + MARK_VALUE_BYTES)

static bool mark_path(const char *dir, char path[MARK_PATH_MAX])
{
    return snprintf(path, MARK_PATH_MAX, "%s/" CLEAN_MARK_NAME, dir) < MARK_PATH_MAX;
}

bool clean_mark_write(const char *dir, uint64_t log_id, const struct log_place *last)
{
    uint8_t bytes[MARK_BYTES], *value = bytes + FACT_HEADER_BYTES;
    char path[MARK_PATH_MAX];
    bool ok;
    int fd;

    bytes_put_le(value, log_id, 8);
    bytes_put_le(value + 8, last->seq, 8);
    bytes_put_le(value + 16, last->offset, 8);
    bytes_put_le(value + 24, last->segment, 4);
    fact_header_encode(slice_str(CLEAN_MARK_NAME), slice_of(value, MARK_VALUE_BYTES), bytes);
    fd = mark_path(dir, path) ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return false;
    ok = write(fd, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes) && fsync(fd) == 0;
    close(fd);
    if (!ok)
        clean_mark_clear(dir);
    return ok && store_dir_sync(dir);
}

void clean_mark_read(const char *dir, uint64_t log_id, struct log_place *ret)
{
    uint8_t bytes[MARK_BYTES];
    char path[MARK_PATH_MAX];
    struct slice value;
    ssize_t n;
    int fd = mark_path(dir, path) ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    *ret = (struct log_place){0};
    if (fd < 0)
        return;
    n = read(fd, bytes, sizeof(bytes));
    close(fd);
    if (n == (ssize_t)sizeof(bytes) &&
        fact_decode(slice_str(CLEAN_MARK_NAME), slice_of(bytes, sizeof(bytes)), &value) == 0 &&
        bytes_get_le(value.data, 8) == log_id)
        *ret = (struct log_place){.seq = bytes_get_le(value.data + 8, 8),
                                  .offset = bytes_get_le(value.data + 16, 8),
                                  .segment = (uint32_t)bytes_get_le(value.data + 24, 4)};
}

bool clean_mark_clear(const char *dir)
{
    char path[MARK_PATH_MAX];

    if (!mark_path(dir, path) || (unlink(path) != 0 && errno != ENOENT))
        return false;
    return store_dir_sync(dir);
}
