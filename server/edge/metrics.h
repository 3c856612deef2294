/* metrics: this node's figures as Prometheus reads them. See metrics.c. */
#ifndef QUOIT_EDGE_METRICS_H
#define QUOIT_EDGE_METRICS_H

#include "proto/slice.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct control;

/* Appends the page. 0 or -ERR_NO_MEMORY. Control thread. */
int metrics_write(struct control *c, struct buf *out);

#endif
