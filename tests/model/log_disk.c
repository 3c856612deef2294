/* log_disk: see log_disk.h.
 *
 * The model is the weakest that POSIX allows: what a sync of the file covered is there; anything
 * written since may be there or not, sector by sector; that a file was made, renamed or removed is
 * certain after a sync of the directory, and may have happened before.
 */
#include "tests/model/log_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/clean_mark.h"

static bool is_ours(const char *name)
{
    return strncmp(name, "log.", 4) == 0 || strcmp(name, "data.mdb") == 0 ||
           strcmp(name, CLEAN_MARK_NAME) == 0;
}

static bool is_gone(const struct log_disk_file *f)
{
    return !*f->name && !*f->name_old;
}

static struct log_disk_file *find(struct log_disk *d, const char *name)
{
    struct log_disk_file *f;

    for (size_t i = 0; i < d->n_files; i++) {
        if (strcmp(d->files[i].name, name) == 0)
            return &d->files[i];
    }
    for (f = d->files; f < d->files + d->n_files && !is_gone(f); f++)
        ;
    assert_true(f < d->files + LOG_DISK_FILES_MAX);
    d->n_files += f == d->files + d->n_files;
    *f = (struct log_disk_file){0};
    snprintf(f->name, sizeof(f->name), "%s", name);
    return f;
}

/* Into bytes that are large enough. */
static void place(uint8_t *bytes, size_t *len, uint64_t offset, const uint8_t *data, size_t n)
{
    if (offset + n > *len) {
        memset(bytes + *len, 0, offset + n - *len);
        *len = offset + n;
    }
    memcpy(bytes + offset, data, n);
}

static void put(uint8_t **bytes, size_t *len, uint64_t offset, const uint8_t *data, size_t n)
{
    if (offset + n > *len) {
        *bytes = realloc(*bytes, offset + n);
        assert_non_null(*bytes);
    }
    place(*bytes, len, offset, data, n);
}

/* Its length with all that is waiting. */
static size_t len_at_most(const struct log_disk *d, const struct log_disk_file *f)
{
    size_t len = f->len;

    for (size_t w = 0; w < f->n_waiting; w++) {
        const struct log_shim_event *e = &d->journal->events[f->waiting[w]];

        len = e->offset + e->len > len ? e->offset + e->len : len;
    }
    return len;
}

static void wait_for_sync(struct log_disk_file *f, size_t at)
{
    if (f->n_waiting == f->cap_waiting) {
        f->cap_waiting = f->cap_waiting ? 2 * f->cap_waiting : 16;
        f->waiting = realloc(f->waiting, f->cap_waiting * sizeof(*f->waiting));
        assert_non_null(f->waiting);
    }
    f->waiting[f->n_waiting++] = at;
}

static void sync_file(struct log_disk *d, struct log_disk_file *f)
{
    for (size_t i = 0; i < f->n_waiting; i++) {
        const struct log_shim_event *e = &d->journal->events[f->waiting[i]];

        put(&f->bytes, &f->len, e->offset, e->data, e->len);
    }
    f->n_waiting = 0;
}

static void forget(struct log_disk_file *f)
{
    free(f->bytes);
    free(f->waiting);
    *f = (struct log_disk_file){0};
}

static void sync_names(struct log_disk *d)
{
    for (size_t i = 0; i < d->n_files; i++) {
        memcpy(d->files[i].name_old, d->files[i].name, LOG_SHIM_NAME_BYTES);
        if (is_gone(&d->files[i]))
            forget(&d->files[i]);
    }
}

void log_disk_event(struct log_disk *d, size_t at)
{
    const struct log_shim_event *e = &d->journal->events[at];

    switch (e->kind) {
    case LOG_SHIM_GROUP:
    case LOG_SHIM_ZERO:
    case LOG_SHIM_DATA:
    case LOG_SHIM_CLEAN:
        wait_for_sync(find(d, e->name), at);
        break;
    case LOG_SHIM_META:
        put(&find(d, e->name)->bytes, &find(d, e->name)->len, e->offset, e->data, e->len);
        break;
    case LOG_SHIM_SYNC:
        sync_file(d, find(d, e->name));
        break;
    case LOG_SHIM_RENAME:
        snprintf(find(d, e->name)->name, LOG_SHIM_NAME_BYTES, "%s", (const char *)e->data);
        break;
    case LOG_SHIM_UNLINK:
        find(d, e->name)->name[0] = 0;
        break;
    case LOG_SHIM_DIR_SYNC:
        sync_names(d);
        break;
    case LOG_SHIM_SYNC_NEW:
    case LOG_SHIM_DATA_SYNC:
    case LOG_SHIM_RESERVE:
    case LOG_SHIM_MARK:
        break;
    }
}

void log_disk_load(struct log_disk *d, const char *dir)
{
    DIR *all = opendir(dir);
    const struct dirent *e;

    *d = (struct log_disk){0};
    assert_non_null(all);
    while ((e = readdir(all))) {
        struct log_disk_file *f;
        struct stat st;
        int fd;

        if (!is_ours(e->d_name))
            continue;
        f = find(d, e->d_name);
        memcpy(f->name_old, f->name, LOG_SHIM_NAME_BYTES);
        fd = openat(dirfd(all), e->d_name, O_RDONLY);
        assert_true(fd >= 0 && fstat(fd, &st) == 0);
        f->len = (size_t)st.st_size;
        f->bytes = malloc(f->len + 1);
        assert_non_null(f->bytes);
        assert_int_equal(read(fd, f->bytes, f->len), f->len);
        close(fd);
    }
    closedir(all);
}

void log_disk_deinit(struct log_disk *d)
{
    for (size_t i = 0; i < d->n_files; i++)
        forget(&d->files[i]);
    d->n_files = 0;
}

static const struct log_shim_event *waiting_group(const struct log_disk *d)
{
    for (size_t i = 0; i < d->n_files; i++) {
        const struct log_disk_file *f = &d->files[i];

        for (size_t w = 0; w < f->n_waiting; w++) {
            if (d->journal->events[f->waiting[w]].kind == LOG_SHIM_GROUP)
                return &d->journal->events[f->waiting[w]];
        }
    }
    return NULL;
}

size_t log_disk_waiting_sectors(const struct log_disk *d)
{
    const struct log_shim_event *e = waiting_group(d);

    return e ? (e->len + LOG_DISK_SECTOR - 1) / LOG_DISK_SECTOR : 0;
}

static bool is_there(const struct log_shim_event *e, size_t sector_at, enum log_disk_cut cut,
                     size_t sector, struct test_random *random)
{
    switch (cut) {
    case LOG_DISK_STRICT:
        return false;
    case LOG_DISK_KILLED:
        return true;
    case LOG_DISK_PREFIX:
        return e->kind == LOG_SHIM_GROUP && sector_at < sector;
    case LOG_DISK_DROP:
        return e->kind == LOG_SHIM_GROUP && sector_at != sector;
    case LOG_DISK_RANDOM:
        return test_random_below(random, 2);
    }
    return false;
}

static void save_file(const char *dir, const char *name, const uint8_t *bytes, size_t len)
{
    char path[160];
    int fd;

    snprintf(path, sizeof(path), "%.100s/%.40s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

static void clear_dir(const char *dir)
{
    DIR *all = opendir(dir);
    const struct dirent *e;

    assert_non_null(all);
    while ((e = readdir(all))) {
        if (is_ours(e->d_name))
            unlinkat(dirfd(all), e->d_name, 0);
    }
    closedir(all);
}

static const char *name_now(const struct log_disk_file *f, enum log_disk_cut cut,
                            struct test_random *random)
{
    if (cut == LOG_DISK_KILLED)
        return f->name;
    if (cut == LOG_DISK_RANDOM && test_random_below(random, 2))
        return f->name;
    return f->name_old;
}

void log_disk_save(const struct log_disk *d, const char *dir, enum log_disk_cut cut, size_t sector,
                   struct test_random *random)
{
    clear_dir(dir);
    for (size_t i = 0; i < d->n_files; i++) {
        const struct log_disk_file *f = &d->files[i];
        const char *name = name_now(f, cut, random);
        size_t len = f->len;
        uint8_t *bytes = malloc(len_at_most(d, f) + 1);

        assert_non_null(bytes);
        if (len)
            memcpy(bytes, f->bytes, len);
        for (size_t w = 0; w < f->n_waiting; w++) {
            const struct log_shim_event *e = &d->journal->events[f->waiting[w]];

            for (size_t at = 0; at < e->len; at += LOG_DISK_SECTOR) {
                size_t n = e->len - at < LOG_DISK_SECTOR ? e->len - at : LOG_DISK_SECTOR;

                if (is_there(e, at / LOG_DISK_SECTOR, cut, sector, random))
                    place(bytes, &len, e->offset + at, e->data + at, n);
            }
        }
        if (*name)
            save_file(dir, name, bytes, len);
        free(bytes);
    }
}
