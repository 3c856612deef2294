/* fault_damage: see fault_damage.h. */
#include "tests/model/fault_damage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Endless loops are deaths by signal too. */
#define CHILD_SECONDS 60u
#define SENTENCE_MIN 20u

static void wrong(int status, const char *what)
{
    fprintf(stderr, "# %s\n", what);
    _exit(status);
}

static void check_record(const struct fault_damaged *d, const struct wire_record *r)
{
    uint8_t bytes[FAULT_VALUE_MAX];
    char name[LIMIT_KEY_BYTES + 1];
    unsigned i;

    memcpy(name, r->key.partition.data, r->key.partition.len);
    name[r->key.partition.len] = 0;
    if (sscanf(name, "key-%u", &i) != 1 || i >= d->n_keys ||
        !slice_equal(r->state.value, fault_value(i, r->state.version.hlc, bytes)))
        wrong(FAULT_EXIT_WRONG, "a scan shows what was never put");
}

static void scan_all(const struct fault_damaged *d, struct store *s)
{
    const struct store_range all = {0, UINT64_MAX};
    struct wire_record items[64];
    struct store_page page = {.items = items, .cap = ARRAY_LEN(items)};
    int r;

    do {
        r = s->ops->scan(s, 0, all, slice_of(page.cursor, page.cursor_len), 1 << 16, &page);
        for (size_t i = 0; r == 0 && i < page.n; i++)
            check_record(d, &items[i]);
        s->ops->read_end(s, 0);
    } while (page.cursor_len && (r == -ERR_CORRUPT || (r == 0 && page.more)));
}

static void get_all(const struct fault_damaged *d, struct store *s)
{
    char what[128];

    for (unsigned i = 0; i < d->n_keys; i++) {
        int r = fault_check(s, i, i < d->n_acked ? 1 : 0, what);

        if (r == FAULT_EXIT_WRONG || (r != 0 && d->strict))
            wrong(r, what);
        s->ops->read_end(s, 0);
    }
}

static void write_some(const struct fault_damaged *d, struct fault_store *f)
{
    uint8_t bytes[FAULT_VALUE_MAX];
    char name[16], what[128];

    for (unsigned k = 0; k < d->n_writes; k++) {
        unsigned i = k * 71 % d->n_keys;
        struct store_op op = fault_put(i, 2, name, bytes);

        if (fault_store_do(f, &op) == 0 && fault_check(f->s, i, 2, what) == FAULT_EXIT_WRONG)
            wrong(FAULT_EXIT_WRONG, what);
        f->s->ops->read_end(f->s, 0);
    }
}

void fault_use_damaged(const struct fault_damaged *d)
{
    struct store_info info;
    struct fault_store f;
    char why[STORE_WHY_BYTES], what[128];

    alarm(CHILD_SECONDS);
    fault_guarded = true;
    if (fault_store_open(&f, d->dir, FAULT_MAP_BYTES, false, why) != 0)
        _exit(strlen(why) > SENTENCE_MIN ? FAULT_EXIT_OPEN : FAULT_EXIT_UNEXPECTED);
    get_all(d, f.s);
    scan_all(d, f.s);
    f.s->ops->vnode_info(f.s, 0, (struct store_range){0, UINT64_MAX}, &info);
    f.s->ops->read_end(f.s, 0);
    if (d->strict && fault_check_sums(f.s, what) != 0)
        wrong(FAULT_EXIT_WRONG, what);
    write_some(d, &f);
    fault_store_close(&f);
}

void fault_file_read(const char *path, struct buf *out)
{
    uint8_t block[1 << 16];
    int fd = open(path, O_RDONLY);
    ssize_t n;

    assert_true(fd >= 0);
    while ((n = read(fd, block, sizeof(block))) > 0)
        assert_int_equal(buf_append(out, block, (size_t)n), 0);
    assert_int_equal(n, 0);
    close(fd);
}

void fault_file_write(const char *path, const uint8_t *bytes, size_t len)
{
    int fd;

    unlink(path);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    for (size_t at = 0; at < len;) {
        ssize_t n = write(fd, bytes + at, len - at);

        assert_true(n > 0);
        at += (size_t)n;
    }
    close(fd);
}
