/* fault_guard: faults that a damaged data file causes.
 *
 * LMDB reads pages through a map of its file and believes what they say. If the file has been cut
 * short, touching a missing page is SIGBUS; if a page is damaged, an offset from it may lead to any
 * place of the map, most of which has no file behind it. Faults inside the map's addresses mean
 * "the file is damaged" and nothing else.
 *
 * A damaged page can also make LMDB itself stumble: a flipped flag has it follow a pointer that is
 * not there, a wrong length spoils the copy of a page that it is about to write and with it the
 * heap. Such a fault has any address, so the thread says when it is inside LMDB
 * (fault_guard_enter), and a fault there, or an abort by the allocator, is taken for damage as
 * well. It might be a bug, and the sentence says so.
 *
 * Either way the process says what is wrong and exits with 1. There is no way to go on: the fault
 * came in the middle of someone else's function. Any other fault is a bug: the handler that was
 * there before is put back and the instruction runs again, so that a debugger, a sanitizer or the
 * kernel's default sees it as it was.
 *
 * The range and the sentences are prepared at installation; the handler only compares, writes,
 * exits. This is the one place of the folder with global mutable state: a signal handler has no
 * argument.
 */
#include "storage/fault_guard.h"

#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SENTENCE_BYTES 1024

static const int guarded[] = {SIGBUS, SIGSEGV, SIGFPE, SIGABRT};
#define N_GUARDED (sizeof(guarded) / sizeof(guarded[0]))

_Thread_local bool fault_guard_inside;

static struct {
    uintptr_t first, last; /* last: one past */
    char in_map[SENTENCE_BYTES], in_reader[SENTENCE_BYTES];
    struct sigaction old[N_GUARDED];
    bool installed;
} guard;

static void say_and_exit(const char *sentence)
{
    ssize_t n = write(STDERR_FILENO, sentence, strlen(sentence));

    (void)n;
    _exit(1);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;
    bool by_kernel = info->si_code > 0; /* otherwise someone sent the signal */

    if (by_kernel && (sig == SIGBUS || sig == SIGSEGV) && at >= guard.first && at < guard.last)
        say_and_exit(guard.in_map);
    if (fault_guard_inside && (by_kernel || sig == SIGABRT))
        say_and_exit(guard.in_reader);
    for (size_t i = 0; i < N_GUARDED; i++) {
        if (guarded[i] == sig)
            sigaction(sig, &guard.old[i], NULL);
    }
    if (!by_kernel)
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

#define ADVICE                                                                                     \
    "Move the file away and let the node be replaced, or restore the directory from a backup.\n"

bool fault_guard_install(int fd, const char *path)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    bool ok;

    fault_guard_remove();
    ok = find_mapping(fd, &guard.first, &guard.last);
    if (!ok)
        return false;
    snprintf(
        guard.in_map, sizeof(guard.in_map),
        "quoit: the data file %.600s is damaged or has been cut short: a page that should be in "
        "it cannot be read. " ADVICE,
        path);
    snprintf(
        guard.in_reader, sizeof(guard.in_reader),
        "quoit: the data file %.600s is damaged: its pages led the code that walks them astray "
        "(or, if the file proves good, this is a bug). " ADVICE,
        path);
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < N_GUARDED; i++)
        ok = sigaction(guarded[i], &action, &guard.old[i]) == 0 && ok;
    guard.installed = true;
    return ok;
}

void fault_guard_remove(void)
{
    if (!guard.installed)
        return;
    guard.installed = false;
    for (size_t i = 0; i < N_GUARDED; i++)
        sigaction(guarded[i], &guard.old[i], NULL);
}
