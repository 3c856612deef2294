/* thread: see thread.h. */
#include "storage/thread.h"

#include <signal.h>

#include "proto/err.h"

int thread_start(pthread_t *ret, void *(*run)(void *), void *arg)
{
    sigset_t blocked, before;
    int r;

    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGABRT);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    r = pthread_create(ret, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r == 0 ? 0 : -ERR_NO_MEMORY;
}
