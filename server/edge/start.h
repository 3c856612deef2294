/* start: brings a node up and takes it down. See start.c. */
#ifndef QUOIT_EDGE_START_H
#define QUOIT_EDGE_START_H

#include "server/edge/config.h"

/* Runs a node until it is told to stop. Returns the process's exit status; on failure the sentence
 * is on stderr. */
int node_run(const struct config *config);

#endif
