/* registers: what the parts of the simulator of the register share. See registers.c. */
#ifndef QUOIT_SIM_REGISTERS_H
#define QUOIT_SIM_REGISTERS_H

#include "proto/wire.h"
#include "server/core/register.h"

#define NODES_MAX 7u
#define PARTITIONS 64u

/* What is known of all rings of a run, by whoever sees everything: registers_check.c. */
struct history;

struct history *history_new(struct slice first_ring);
void history_free(struct history *h);
/* Each ends the program with a line that begins with FAILED if it must not be. */
/* A change was computed from the ring of the epoch before it. */
void history_computed(struct history *h, struct slice ring, struct slice from);
/* Somebody was sent this under that ballot. */
void history_offered(struct history *h, const struct wire_ballot *ballot, struct slice ring);
/* Somebody holds this for the decided ring of its epoch. */
void history_decided(struct history *h, uint64_t epoch, struct slice ring);
/* A change has been acknowledged to its caller; or has been told to have come to nothing. */
void history_acked(struct history *h, uint64_t epoch, struct slice ring);
void history_lost(struct history *h, struct slice ring);
uint64_t history_epoch(const struct history *h); /* of the newest that is decided */

__attribute__((format(printf, 1, 2), noreturn)) void failed(const char *fmt, ...);

#endif
