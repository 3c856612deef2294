/* suspect: see suspect.h. The mark counts from the moment its name is there, whatever its content:
 * a half-written mark is a mark. */
#include "storage/suspect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "storage/store_dir.h"

#define SUSPECT_PATH_MAX 4096

static bool suspect_path(const char *dir, char path[SUSPECT_PATH_MAX])
{
    return snprintf(path, SUSPECT_PATH_MAX, "%s/" SUSPECT_NAME, dir) < SUSPECT_PATH_MAX;
}

bool suspect_mark(const char *dir, const char *sentence)
{
    char path[SUSPECT_PATH_MAX];
    size_t len = strlen(sentence);
    bool ok;
    int fd;

    errno = EIO; /* what a write that comes back short does not set */
    if (!suspect_path(dir, path))
        return false;
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    ok = write(fd, sentence, len) == (ssize_t)len && write(fd, "\n", 1) == 1;
    ok = fsync(fd) == 0 && ok;
    close(fd);
    return store_dir_sync(dir) && ok;
}

bool suspect_mark_told(const char *dir, const char *sentence, char *told, size_t told_len)
{
    bool ok = suspect_mark(dir, sentence);

    if (ok)
        snprintf(told, told_len, "%s. The directory is marked " SUSPECT_NAME, sentence);
    else
        snprintf(told, told_len,
                 "%s. The directory could NOT be marked " SUSPECT_NAME
                 " (%.60s): the next start would not know of this, so let the node be replaced, or "
                 "make a file " SUSPECT_NAME " in the directory before it is started again",
                 sentence, strerror(errno));
    return ok;
}

bool suspect_is_marked(const char *dir, char *why, size_t why_len)
{
    char path[SUSPECT_PATH_MAX];
    ssize_t n;
    int fd;

    why[0] = 0;
    if (!suspect_path(dir, path))
        return false;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno != ENOENT; /* unreadable is not absent */
    n = read(fd, why, why_len - 1);
    close(fd);
    why[n > 0 ? n : 0] = 0;
    why[strcspn(why, "\n")] = 0;
    return true;
}

bool suspect_clear(const char *dir)
{
    char path[SUSPECT_PATH_MAX];

    return suspect_path(dir, path) && unlink(path) == 0 && store_dir_sync(dir);
}
