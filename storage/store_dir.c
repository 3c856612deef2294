/* store_dir: a store is created once, and never again by accident.
 *
 *   STORE file        data file        meaning
 *   ----------        ---------        -------
 *   none              none             new: STORE := "creating", make the data file, its first
 *                                      commit, STORE := "quoit store N"
 *   none              there            brought here without STORE (a copy of the file): open it
 *   "creating"        any              the creation was cut off, nothing was ever acknowledged:
 *                                      again
 *   "quoit store N"   there            open it
 *   "quoit store N"   gone or empty    the data was lost: refused. To begin anew here would be a
 *                                      node that has forgotten everything and still answers as
 *                                      itself
 *   a higher N        any              a newer version wrote it: refused
 *
 * N is the format: 1 without a log, 2 with one.
 *
 * Each change of STORE is a new file renamed into place, the file and the directory synced, so it
 * is one or the other after a power cut; and the directory's entry of the data file is durable with
 * it, which LMDB does not care for.
 */
#include "storage/store_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/err.h"

#define PATH_BYTES 4096
#define TEXT_BYTES 64
#define TEXT_CREATING "creating\n"
#define TEXT_READY "quoit store "

static int explain_errno(char why[STORE_DIR_WHY_BYTES], const char *what)
{
    int e = errno;

    snprintf(why, STORE_DIR_WHY_BYTES, "cannot %s: %s", what, strerror(e));
    return e == ENOSPC || e == EDQUOT ? -ERR_NO_SPACE : -ERR_IO;
}

static int write_file(int dir_fd, const char *text)
{
    static const char tmp[] = STORE_DIR_NAME ".tmp";
    int fd = openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok;

    if (fd < 0)
        return -1;
    ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text) && fsync(fd) == 0;
    close(fd);
    if (!ok || renameat(dir_fd, tmp, dir_fd, STORE_DIR_NAME) != 0)
        return -1;
    return fsync(dir_fd);
}

/* Length of the text, 0 if there is no such file, -1. */
static ssize_t read_file(int dir_fd, char text[TEXT_BYTES])
{
    int fd = openat(dir_fd, STORE_DIR_NAME, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    n = read(fd, text, TEXT_BYTES - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return n;
}

static bool data_is_there(int dir_fd)
{
    struct stat st;

    return fstatat(dir_fd, STORE_DIR_DATA, &st, 0) == 0 && st.st_size > 0;
}

static int begin_new(int dir_fd, char why[STORE_DIR_WHY_BYTES])
{
    if (write_file(dir_fd, TEXT_CREATING) != 0)
        return explain_errno(why, "write " STORE_DIR_NAME);
    if (unlinkat(dir_fd, STORE_DIR_DATA, 0) != 0 && errno != ENOENT)
        return explain_errno(why, "remove an unfinished " STORE_DIR_DATA);
    unlinkat(dir_fd, STORE_DIR_LOCK, 0);
    return 1;
}

static int begin(int dir_fd, unsigned format, char why[STORE_DIR_WHY_BYTES])
{
    char text[TEXT_BYTES] = "";
    ssize_t n = read_file(dir_fd, text);
    unsigned long found;

    if (n < 0)
        return explain_errno(why, "read " STORE_DIR_NAME);
    if (n == 0)
        return data_is_there(dir_fd) ? 1 : begin_new(dir_fd, why);
    if (strcmp(text, TEXT_CREATING) == 0)
        return begin_new(dir_fd, why);
    found = strncmp(text, TEXT_READY, strlen(TEXT_READY)) == 0
                ? strtoul(text + strlen(TEXT_READY), NULL, 10)
                : 0;
    if (found == 0) {
        snprintf(why, STORE_DIR_WHY_BYTES, "its file " STORE_DIR_NAME " is damaged");
        return -ERR_CORRUPT;
    }
    if (found > format) {
        snprintf(why, STORE_DIR_WHY_BYTES,
                 "written by a newer version of quoit (store format %lu, this version knows %u); "
                 "start that version or a newer one",
                 found, format);
        return -ERR_FORMAT;
    }
    if (!data_is_there(dir_fd)) {
        snprintf(why, STORE_DIR_WHY_BYTES,
                 "its data file " STORE_DIR_DATA " is gone or empty; restore it, or remove the "
                 "whole directory and let the node be replaced");
        return -ERR_CORRUPT;
    }
    return 0;
}

int store_dir_begin(const char *dir, unsigned format, char why[STORE_DIR_WHY_BYTES])
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (fd < 0)
        return explain_errno(why, "open the directory");
    r = begin(fd, format, why);
    close(fd);
    return r;
}

int store_dir_finish(const char *dir, unsigned format, char why[STORE_DIR_WHY_BYTES])
{
    char text[TEXT_BYTES];
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = 0;

    if (fd < 0)
        return explain_errno(why, "open the directory");
    snprintf(text, sizeof(text), TEXT_READY "%u\n", format);
    if (write_file(fd, text) != 0)
        r = explain_errno(why, "write " STORE_DIR_NAME);
    close(fd);
    return r;
}

bool store_dir_sync(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}
