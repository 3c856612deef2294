/* disk: the data directory: its lock, and who this node is.
 *
 *   DATA/LOCK         flock()ed while a quoitd runs here; holds its pid for the message
 *   DATA/quoit.json   {"format": 1, "node_id": "<32 hex>", "boot": 7,
 *                      "cluster_id": "<32 hex>" or "", "name": "n1"}
 *   DATA/store/       the storage engine's files
 *
 * quoit.json is replaced atomically: written beside, synced, renamed, the directory synced. boot
 * grows at every start and is on disk before anything is said to anybody, so that the other nodes
 * can tell an old copy of this directory from the node itself. One that was told that it is such a
 * copy gets "outdated": true and is never started again: by starting again and again it would
 * overtake the node. "candidate": true is there from joining a cluster until a ring names the node:
 * a node that was a member once, and is in no ring any more, is something else. A directory with a
 * store and without quoit.json is damaged, not new: it is refused, since a new identity over old
 * data would be a lie. A newer format is refused as well. The lock is the kernel's and dies with
 * the process.
 */
#include "server/edge/disk.h"
#include "proto/err.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISK_FILE "quoit.json"
#define DISK_FILE_NEW "quoit.json.new"

__attribute__((format(printf, 2, 3))) static void say(char why[DISK_WHY_BYTES], const char *fmt,
                                                      ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, DISK_WHY_BYTES, fmt, args);
    va_end(args);
}

void disk_id_text(const struct wire_id *id, char out[2 * WIRE_ID_BYTES + 1])
{
    for (size_t i = 0; i < WIRE_ID_BYTES; i++)
        snprintf(out + 2 * i, 3, "%02x", id->b[i]);
}

int disk_id_parse(const char *text, struct wire_id *ret)
{
    struct wire_id id;
    if (strlen(text) != 2 * WIRE_ID_BYTES ||
        strspn(text, "0123456789abcdef") != 2 * (size_t)WIRE_ID_BYTES)
        return -ERR_CORRUPT;
    for (size_t i = 0; i < WIRE_ID_BYTES; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], 0};
        id.b[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    *ret = id;
    return 0;
}

/* ---- taking the directory ------------------------------------------------------------------ */

static int sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    close(fd);
    return rc;
}

/* Makes one directory and syncs the one that names it. Existing is fine. */
static int make_dir(const char *path, char why[DISK_WHY_BYTES])
{
    char parent[DISK_PATH_BYTES + 4];
    if (mkdir(path, 0700) == 0) {
        snprintf(parent, sizeof(parent), "%s/..", path);
        if (sync_dir(parent) == 0)
            return 0;
    } else if (errno == EEXIST) {
        return 0;
    }
    say(why, "cannot make the directory %s: %s", path, strerror(errno));
    return -ERR_IO;
}

static int lock_dir(struct disk *d, char why[DISK_WHY_BYTES])
{
    char text[32] = {0};

    d->lock_fd = openat(d->dir_fd, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->lock_fd < 0) {
        say(why, "cannot open %s/LOCK: %s", d->dir, strerror(errno));
        return -ERR_IO;
    }
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK) {
            say(why, "cannot lock %s/LOCK: %s", d->dir, strerror(errno));
            return -ERR_IO;
        }
        ssize_t n = pread(d->lock_fd, text, sizeof(text) - 1, 0);
        text[n > 0 ? strspn(text, "0123456789") : 0] = 0;
        say(why, "%s is in use by process %s: one quoitd each.", d->dir, text[0] ? text : "?");
        return -ERR_IN_USE;
    }
    int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(d->lock_fd, 0) < 0 || pwrite(d->lock_fd, text, (size_t)len, 0) != len) {
        say(why, "cannot write %s/LOCK: %s", d->dir, strerror(errno));
        return -ERR_IO;
    }
    return 0;
}

/* ---- quoit.json ---------------------------------------------------------------------------- */

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Replaces quoit.json by text, atomically and for good. */
static int replace_file(struct disk *d, const char *text, char why[DISK_WHY_BYTES])
{
    int fd = openat(d->dir_fd, DISK_FILE_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write_all(fd, text, strlen(text)) == 0 && fsync(fd) == 0;
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
    if (ok && renameat(d->dir_fd, DISK_FILE_NEW, d->dir_fd, DISK_FILE) == 0 &&
        fsync(d->dir_fd) == 0)
        return 0;
    say(why, "cannot write %s/" DISK_FILE ": %s", d->dir, strerror(errno));
    return -ERR_IO;
}

static int save(struct disk *d, char why[DISK_WHY_BYTES])
{
    char node[2 * WIRE_ID_BYTES + 1], cluster[2 * WIRE_ID_BYTES + 1];
    int rc = -ERR_NO_MEMORY;

    disk_id_text(&d->node_id, node);
    disk_id_text(&d->cluster_id, cluster);
    json_t *json = json_pack("{s:i, s:s, s:I, s:s, s:s}", "format", DISK_FORMAT, "node_id", node,
                             "boot", (json_int_t)d->boot, "cluster_id",
                             wire_id_is_zero(&d->cluster_id) ? "" : cluster, "name", d->name);
    if ((d->outdated && json_object_set_new(json, "outdated", json_true()) < 0) ||
        (d->candidate && json_object_set_new(json, "candidate", json_true()) < 0)) {
        json_decref(json);
        json = NULL;
    }
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    if (text)
        rc = replace_file(d, text, why);
    else
        say(why, "out of memory");
    free(text);
    json_decref(json);
    return rc;
}

static int damaged(const struct disk *d, const char *what, char why[DISK_WHY_BYTES])
{
    say(why,
        "%s/" DISK_FILE " is damaged (%s). It names this node; take it from a backup of this "
        "directory, or remove the whole directory to start as a new node.",
        d->dir, what);
    return -ERR_CORRUPT;
}

static int parse(struct disk *d, json_t *json, char why[DISK_WHY_BYTES])
{
    const char *node, *cluster, *name;
    json_int_t boot;
    json_t *format = json_object_get(json, "format");

    if (!json_is_integer(format) || json_integer_value(format) < 1)
        return damaged(d, "no format number", why);
    if (json_integer_value(format) > DISK_FORMAT) {
        say(why,
            "%s was written by a newer quoit (format %lld, this one knows %d): start that one.",
            d->dir, (long long)json_integer_value(format), DISK_FORMAT);
        return -ERR_FORMAT;
    }
    if (json_unpack(json, "{s:s, s:I, s:s, s:s}", "node_id", &node, "boot", &boot, "cluster_id",
                    &cluster, "name", &name) < 0)
        return damaged(d, "a field is missing", why);
    if (disk_id_parse(node, &d->node_id) < 0 || boot < 1)
        return damaged(d, "bad node_id or boot", why);
    if (cluster[0] && disk_id_parse(cluster, &d->cluster_id) < 0)
        return damaged(d, "bad cluster_id", why);
    if (!name[0] || strlen(name) > LIMIT_NAME_BYTES)
        return damaged(d, "bad name", why);
    if (json_is_true(json_object_get(json, "outdated"))) {
        say(why,
            "%s is an old copy of a node: when it was started last, the other nodes knew of a "
            "later start of that node. Remove it; an empty directory becomes a new node.",
            d->dir);
        return -ERR_STALE_BOOT;
    }
    d->candidate = json_is_true(json_object_get(json, "candidate"));
    memcpy(d->name, name, strlen(name) + 1);
    d->boot = (uint64_t)boot;
    return 0;
}

/* 0 read, 1 there is none, or negative. */
static int load(struct disk *d, char why[DISK_WHY_BYTES])
{
    json_error_t error;
    int fd = openat(d->dir_fd, DISK_FILE, O_RDONLY | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT)
        return 1;
    if (fd < 0) {
        say(why, "cannot open %s/" DISK_FILE ": %s", d->dir, strerror(errno));
        return -ERR_IO;
    }
    json_t *json = json_loadfd(fd, JSON_REJECT_DUPLICATES, &error);
    close(fd);
    if (!json)
        return damaged(d, error.text, why);
    int rc = parse(d, json, why);
    json_decref(json);
    return rc;
}

static int invent(struct disk *d, char why[DISK_WHY_BYTES])
{
    if (faccessat(d->dir_fd, "store", F_OK, 0) == 0) {
        say(why,
            "%s has a store but no " DISK_FILE ", so it is not known whose data it is. Take the "
            "file from a backup, or remove the whole directory to start as a new node.",
            d->dir);
        return -ERR_CORRUPT;
    }
    if (getrandom(d->node_id.b, WIRE_ID_BYTES, 0) != WIRE_ID_BYTES) {
        say(why, "no random numbers: %s", strerror(errno));
        return -ERR_IO;
    }
    d->fresh = true;
    return 0;
}

static void choose_name(struct disk *d, const char *name)
{
    if (name[0])
        snprintf(d->name, sizeof(d->name), "%s", name);
    else if (!d->name[0])
        snprintf(d->name, sizeof(d->name), "n-%02x%02x%02x", d->node_id.b[0], d->node_id.b[1],
                 d->node_id.b[2]);
}

static int take(struct disk *d, const char *name, char why[DISK_WHY_BYTES])
{
    int rc = make_dir(d->dir, why);
    if (rc < 0)
        return rc;
    d->dir_fd = open(d->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->dir_fd < 0) {
        say(why, "cannot open %s: %s", d->dir, strerror(errno));
        return -ERR_IO;
    }
    rc = lock_dir(d, why);
    if (rc == 0)
        rc = load(d, why);
    if (rc == 1)
        rc = invent(d, why);
    if (rc < 0)
        return rc;
    choose_name(d, name);
    d->boot++;
    rc = save(d, why); /* before the store exists: a store without quoit.json is never ours */
    return rc < 0 ? rc : make_dir(d->store, why);
}

int disk_open(struct disk *d, const char *dir, const char *name, char why[DISK_WHY_BYTES])
{
    *d = (struct disk){.lock_fd = -1, .dir_fd = -1};
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/')
        len--;
    if (len + sizeof("/store") > sizeof(d->dir)) {
        say(why, "the path of the data directory is too long");
        return -ERR_CONFIG;
    }
    memcpy(d->dir, dir, len);
    memcpy(d->store, dir, len);
    memcpy(d->store + len, "/store", sizeof("/store"));
    int rc = take(d, name, why);
    if (rc < 0)
        disk_close(d);
    return rc;
}

void disk_close(struct disk *d)
{
    if (d->lock_fd >= 0)
        close(d->lock_fd); /* gives the lock back */
    if (d->dir_fd >= 0)
        close(d->dir_fd);
    d->lock_fd = d->dir_fd = -1;
}

int disk_set_cluster(struct disk *d, const struct wire_id *cluster_id, bool candidate,
                     char why[DISK_WHY_BYTES])
{
    struct wire_id old = d->cluster_id;
    bool was_candidate = d->candidate;

    d->cluster_id = *cluster_id;
    d->candidate = candidate;
    int rc = save(d, why);
    if (rc < 0) {
        d->cluster_id = old;
        d->candidate = was_candidate;
    }
    return rc;
}

int disk_set_outdated(struct disk *d, char why[DISK_WHY_BYTES])
{
    d->outdated = true;
    return save(d, why);
}
