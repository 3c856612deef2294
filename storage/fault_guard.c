/* fault_guard: SIGBUS and SIGSEGV inside one memory map.
 *
 * LMDB reads pages through a map of its file. If the file has been cut short, touching a missing
 * page is SIGBUS; if a page is damaged, an offset from it may lead anywhere inside the map's
 * address range, most of which has no file behind it (SIGBUS again) or no pages (SIGSEGV). Both
 * mean "the file is damaged" and nothing else, so the process says that and exits with 1. There is
 * no way to go on: the fault came in the middle of someone else's function.
 *
 * A fault at any other address is a bug: the handler that was there before is put back and the
 * instruction runs again, so that a debugger, a sanitizer or the kernel's default sees it as it
 * was.
 *
 * The range and the sentence are prepared at installation; the handler only compares, writes,
 * exits. This is the one place of the tree with global mutable state: a signal handler has no
 * argument.
 */
#include "storage/fault_guard.h"

#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SENTENCE_BYTES 1024

static struct {
    uintptr_t first, last; /* last: one past */
    char sentence[SENTENCE_BYTES];
    size_t sentence_len;
    struct sigaction old_bus, old_segv;
} guard;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;

    /* si_code > 0: the kernel saw the fault; otherwise someone sent the signal. */
    if (info->si_code > 0 && at >= guard.first && at < guard.last) {
        ssize_t n = write(STDERR_FILENO, guard.sentence, guard.sentence_len);

        (void)n;
        _exit(1);
    }
    sigaction(sig, sig == SIGBUS ? &guard.old_bus : &guard.old_segv, NULL);
    if (info->si_code <= 0)
        raise(sig);
}

/* Lines of /proc/self/maps: first-last perms offset major:minor inode path. */
static bool find_mapping(int fd, uintptr_t *ret_first, uintptr_t *ret_last)
{
    uintptr_t first = UINTPTR_MAX, last = 0, a, b;
    unsigned long inode;
    unsigned major_no, minor_no;
    struct stat st;
    char line[4352];
    FILE *f;

    if (fstat(fd, &st) != 0)
        return false;
    f = fopen("/proc/self/maps", "re");
    if (!f)
        return false;
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %*s %x:%x %lu", &a, &b, &major_no,
                   &minor_no, &inode) != 5)
            continue;
        if (inode != st.st_ino || makedev(major_no, minor_no) != st.st_dev)
            continue;
        first = a < first ? a : first;
        last = b > last ? b : last;
    }
    fclose(f);
    *ret_first = first;
    *ret_last = last;
    return last > first;
}

bool fault_guard_install(int fd, const char *path)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    int n;

    if (!find_mapping(fd, &guard.first, &guard.last))
        return false;
    n = snprintf(guard.sentence, sizeof(guard.sentence),
                 "quoit: the data file %.600s is damaged or has been cut short: a page that should "
                 "be in it cannot be read. Move the file away and let the node be replaced, or "
                 "restore the directory from a backup.\n",
                 path);
    guard.sentence_len = n > 0 ? strlen(guard.sentence) : 0;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, &guard.old_bus) == 0 &&
           sigaction(SIGSEGV, &action, &guard.old_segv) == 0;
}
