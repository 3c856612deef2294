/* wheel: see wheel.h.
 *
 * A slot's bit may stay set after its last timer was cancelled (cancel does not know its wheel);
 * wheel_expire clears it when it passes, so a stale bit costs one early wake-up.
 */
#include "server/base/wheel.h"
#include <string.h>

void wheel_init(struct wheel *w, uint64_t now_ms)
{
    w->done_ms = now_ms;
    memset(w->used, 0, sizeof w->used);
    for (uint32_t i = 0; i < WHEEL_SLOTS; i++)
        list_init(&w->slots[i]);
}

void wheel_timer_init(struct wheel_timer *t)
{
    list_init(&t->link);
    t->at_ms = WHEEL_NEVER;
}

void wheel_set(struct wheel *w, struct wheel_timer *t, uint64_t at_ms)
{
    uint64_t slot_ms = at_ms > w->done_ms ? at_ms : w->done_ms + 1;
    uint32_t slot = (uint32_t)(slot_ms % WHEEL_SLOTS);

    list_remove(&t->link);
    t->at_ms = at_ms;
    list_append(&w->slots[slot], &t->link);
    w->used[slot / 64] |= (uint64_t)1 << (slot % 64);
}

void wheel_cancel(struct wheel_timer *t)
{
    list_remove(&t->link);
}

static void expire_slot(struct wheel *w, uint32_t slot, uint64_t now_ms, struct list *expired)
{
    struct list *head = &w->slots[slot];

    for (struct list *l = head->next, *next; l != head; l = next) {
        struct wheel_timer *t = list_entry(l, struct wheel_timer, link);

        next = l->next;
        if (t->at_ms > now_ms)
            continue;
        list_remove(l);
        list_append(expired, l);
    }
    if (list_empty(head))
        w->used[slot / 64] &= ~((uint64_t)1 << (slot % 64));
}

/* Distance in slots from `from` to the next used one, itself included; WHEEL_SLOTS if none. */
static uint32_t next_used(const struct wheel *w, uint32_t from)
{
    uint32_t word = from / 64;
    uint64_t bits = w->used[word] & (UINT64_MAX << (from % 64));

    for (uint32_t i = 0; i <= WHEEL_SLOTS / 64; i++) {
        if (bits) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);

            return (slot + WHEEL_SLOTS - from) % WHEEL_SLOTS;
        }
        word = (word + 1) % (WHEEL_SLOTS / 64);
        bits = w->used[word];
    }
    return WHEEL_SLOTS;
}

void wheel_expire(struct wheel *w, uint64_t now_ms, struct list *expired)
{
    uint64_t at = w->done_ms + 1;
    uint64_t last;

    if (now_ms <= w->done_ms)
        return;
    /* After a long pause one whole turn sees every slot. */
    last = now_ms - w->done_ms > WHEEL_SLOTS ? w->done_ms + WHEEL_SLOTS : now_ms;
    while (at <= last) {
        uint32_t skip = next_used(w, (uint32_t)(at % WHEEL_SLOTS));

        if (skip > last - at)
            break;
        at += skip;
        expire_slot(w, (uint32_t)(at % WHEEL_SLOTS), now_ms, expired);
        at++;
    }
    w->done_ms = now_ms;
}

uint64_t wheel_next_ms(const struct wheel *w)
{
    uint32_t skip = next_used(w, (uint32_t)((w->done_ms + 1) % WHEEL_SLOTS));

    return skip == WHEEL_SLOTS ? WHEEL_NEVER : w->done_ms + 1 + skip;
}
