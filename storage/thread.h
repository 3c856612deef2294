/* thread: how the store's own threads begin. */
#ifndef QUOIT_STORAGE_THREAD_H
#define QUOIT_STORAGE_THREAD_H

#include <pthread.h>

/* pthread_create with all signals blocked, which belong to the threads of the caller, except those
 * that a thread earns itself. 0 or -ERR_NO_MEMORY. */
int thread_start(pthread_t *ret, void *(*run)(void *), void *arg);

#endif
