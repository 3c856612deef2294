/* quoitd: one node. Reads the configuration, sets the process up, and leaves the rest to start.
 */
#include "server/edge/config.h"
#include "server/edge/start.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* A write to a closed socket is an error code, nobody types at us, and each connection is a
 * descriptor. */
static void set_up_process(void)
{
    struct rlimit limit;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    signal(SIGPIPE, SIG_IGN);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        if (null != STDIN_FILENO)
            close(null);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    static struct config config; /* 40 KiB: not for the stack */
    char why[CONFIG_WHY_BYTES];

    int rc = config_load(&config, argc, argv, why);
    if (rc < 0) {
        fprintf(stderr, "quoitd: %s\n", why);
        return 2;
    }
    if (rc == CONFIG_DONE)
        return 0;
    set_up_process();
    return node_run(&config);
}
