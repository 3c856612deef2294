/* wire_gossip: messages about who is there; see wire_peer.c for the trust that peers get (none).
 *
 * A rumour is kept by its receiver and told on, so everything in it is checked here: a profile is
 * of the node that the rumour names, texts are printable and bounded, states are known. A rumour of
 * a kind that this version does not know makes the message malformed: peers of a later version must
 * not send it to us before they have learnt what we are.
 */
#include "proto/wire_pb.h"

#include <stdlib.h>

struct rumour_parts {
    Quoit__Peer__Rumour rumour;
    Quoit__Peer__Profile profile;
    Quoit__Member member;
    Quoit__Load load;
};

struct gossip_parts {
    Quoit__Load load;
    struct rumour_parts rumours[];
};

/* ---- packing ------------------------------------------------------------------------------- */

static void write_rumour(const struct wire_rumour *from, struct rumour_parts *parts)
{
    Quoit__Peer__Rumour *ret = &parts->rumour;

    quoit__peer__rumour__init(ret);
    ret->id = pb_id(&from->id);
    ret->boot = from->boot;
    ret->refutation = from->refutation;
    ret->state = (uint32_t)from->state;
    ret->by = pb_id_or_none(&from->by);
    ret->load = pb_write_load(&from->load, &parts->load);
    if (!from->profile)
        return;
    quoit__peer__profile__init(&parts->profile);
    pb_write_member(&from->profile->member, &parts->member);
    parts->profile.number = from->profile->number;
    parts->profile.member = &parts->member;
    parts->profile.software = pb_bytes(from->profile->software);
    parts->profile.candidate = from->profile->candidate;
    ret->profile = &parts->profile;
}

int pb_write_gossip(const struct wire_gossip *gossip, Quoit__Peer__Gossip *ret, void **ret_block)
{
    size_t n = gossip->n_rumours;
    /* One block: the parts, then the pointers to them that protobuf-c wants. */
    struct gossip_parts *parts =
        calloc(1, sizeof(*parts) + n * (sizeof(parts->rumours[0]) + sizeof(Quoit__Peer__Rumour *)));

    if (!parts)
        return -ERR_NO_MEMORY;
    Quoit__Peer__Rumour **pointers = (Quoit__Peer__Rumour **)(parts->rumours + n);
    for (size_t i = 0; i < n; i++) {
        write_rumour(&gossip->rumours[i], &parts->rumours[i]);
        pointers[i] = &parts->rumours[i].rumour;
    }
    quoit__peer__gossip__init(ret);
    ret->kind = (Quoit__Peer__GossipKind)gossip->kind;
    ret->number = gossip->number;
    ret->target = pb_id_or_none(&gossip->target);
    ret->digest = gossip->digest;
    ret->wall_ms = gossip->wall_ms;
    ret->load = pb_write_load(&gossip->load, &parts->load);
    ret->n_rumours = n;
    ret->rumours = pointers;
    *ret_block = parts;
    return 0;
}

/* ---- unpacking ----------------------------------------------------------------------------- */

static int read_profile(const Quoit__Peer__Profile *pb, const struct wire_id *id,
                        struct arena *arena, const struct wire_profile **ret)
{
    struct wire_profile *profile = arena_alloc(arena, sizeof(*profile));

    if (!profile)
        return -ERR_NO_MEMORY;
    *profile = (struct wire_profile){.number = pb->number, .candidate = pb->candidate};
    if (pb->number == 0 || !pb->member || pb_read_member(pb->member, &profile->member) < 0 ||
        !wire_id_equal(&profile->member.id, id) ||
        pb_read_text(pb->software, LIMIT_NAME_BYTES, &profile->software) < 0)
        return -ERR_BAD_REQUEST;
    *ret = profile;
    return 0;
}

static int read_rumour(const Quoit__Peer__Rumour *pb, struct arena *arena, struct wire_rumour *ret)
{
    *ret = (struct wire_rumour){
        .boot = pb->boot, .refutation = pb->refutation, .state = (enum wire_member_state)pb->state};
    if (pb_read_id(pb->id, &ret->id) < 0 || pb_read_id_or_none(pb->by, &ret->by) < 0 ||
        pb->state < MEMBER_ALIVE || pb->state > MEMBER_STOPPED)
        return -ERR_BAD_REQUEST;
    pb_read_load(pb->load, &ret->load);
    return pb->profile ? read_profile(pb->profile, &ret->id, arena, &ret->profile) : 0;
}

int pb_read_gossip(const Quoit__Peer__Gossip *pb, struct arena *arena,
                   const struct wire_gossip **ret)
{
    struct wire_gossip *gossip;
    struct wire_rumour *rumours;

    if ((unsigned int)pb->kind < GOSSIP_PING || (unsigned int)pb->kind > GOSSIP_RUMOURS ||
        pb->n_rumours > LIMIT_RUMOURS_MAX)
        return -ERR_BAD_REQUEST;
    gossip = arena_alloc(arena, sizeof(*gossip));
    rumours = arena_alloc(arena, (pb->n_rumours + 1) * sizeof(*rumours)); /* never nothing */
    if (!gossip || !rumours)
        return -ERR_NO_MEMORY;
    *gossip = (struct wire_gossip){.kind = (enum wire_gossip_kind)pb->kind,
                                   .number = pb->number,
                                   .digest = pb->digest,
                                   .wall_ms = pb->wall_ms,
                                   .rumours = rumours,
                                   .n_rumours = pb->n_rumours};
    pb_read_load(pb->load, &gossip->load);
    if (pb_read_id_or_none(pb->target, &gossip->target) < 0 ||
        (gossip->kind == GOSSIP_PING_REQUEST && wire_id_is_zero(&gossip->target)))
        return -ERR_BAD_REQUEST;
    for (size_t i = 0; i < pb->n_rumours; i++) {
        int r = read_rumour(pb->rumours[i], arena, &rumours[i]);

        if (r < 0)
            return r;
    }
    *ret = gossip;
    return 0;
}
