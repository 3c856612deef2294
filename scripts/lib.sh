# lib.sh: what the scripts of this folder share. Sourced by bash, never run.
#
# Two ideas live here. A *build directory* per configuration, made once and then only brought up to
# date, so that repeated runs are cheap. And a *part*: one named piece of work whose output goes to
# a log, whose time is printed, and whose failure shows the end of that log and is remembered
# instead of ending the script, so that one run tells everything that is wrong.
#
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2054

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
JOBS=$(nproc)
PYTHON=/usr/bin/python3 # Debian's own: the only one that sees Debian's modules
LOGS=$ROOT/build/logs
FAILED_PARTS=()
RUNS=() # NAME=LOGS of each suite run, for tally

# -O1: the sanitizers' own advice, and it halves the time of the build.
ASAN=(-Db_sanitize=address,undefined -Doptimization=1)
TSAN=(-Db_sanitize=thread -Doptimization=1)

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Seconds since the epoch, with milliseconds.
now() {
    date +%s.%3N
}

# elapsed SINCE: "12.3 s".
elapsed() {
    awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.1f s", to - from }'
}

# The build directories belong to whoever made them first; say so instead of failing halfway.
require_writable() {
    local dir
    for dir in "$ROOT" "$ROOT"/build*/; do
        [[ -e $dir && ! -w $dir ]] || continue
        die "$dir belongs to $(stat -c %U "$dir"): run as that user, or remove it"
    done
}

# configure DIR [MESON OPTION...]: makes the build directory, anew if options, place or the packages
# that decide what is built have changed (objects stay). One made by hand is only looked at again.
configure() {
    local dir=$ROOT/$1 mark=$ROOT/$1/.configured wanted how=()
    shift
    wanted="$ROOT ${CC:-cc} $* $(pkg-config --modversion cmocka 2>/dev/null || true)"
    if [[ -f $mark ]]; then
        [[ -f $dir/build.ninja && $(<"$mark") == "$wanted" ]] && return 0
        rm -rf "$dir/meson-private" "$dir/build.ninja"
    elif [[ -f $dir/build.ninja ]]; then
        how=(--reconfigure)
    fi
    meson setup "${how[@]}" "$dir" "$ROOT" "$@" || return
    printf '%s\n' "$wanted" >"$mark"
}

# build DIR [MESON OPTION...]
build() {
    configure "$@" && ninja --quiet -C "$ROOT/$1" -j "$JOBS"
}

# part NAME COMMAND...: runs it with its output in a log, prints one line with the time. Its status
# is always 0: look at FAILED_PARTS.
part() {
    local name=$1 log start status=0
    shift
    log=$LOGS/${name//[ \/]/-}.log
    LAST_LOG=$log
    mkdir -p "$LOGS"
    start=$(now)
    [[ -t 1 ]] && printf '  ....   %s' "$name"
    "$@" >"$log" 2>&1 </dev/null || status=$?
    [[ -t 1 ]] && printf '\r'
    if ((status == 0)); then
        printf '  ok     %-32s %9s\n' "$name" "$(elapsed "$start")"
        return 0
    fi
    printf '  FAILED %-32s %9s  (exit code %d, all of it in %s)\n' "$name" "$(elapsed "$start")" \
        "$status" "${log#"$ROOT/"}"
    tail -n 40 "$log" | sed 's/^/    | /'
    FAILED_PARTS+=("$name")
}

# tell PATTERN: what the last part said about it.
tell() {
    grep -aE "$1" "$LAST_LOG" | sed 's/^ */         /' || true
}

# suite DIR SUITE...: runs test suites of a build directory as one part, for tally to count.
suite() {
    local dir=$1 name log
    shift
    name="$dir $*"
    log=$ROOT/$dir/meson-logs/${name// /-}
    rm -f "$log".*
    part "$name" meson test -C "$ROOT/$dir" --no-rebuild --print-errorlogs \
        --logbase "${name// /-}" "${@/#/--suite=}"
    RUNS+=("$name=$log")
}

# Any report of a sanitizer ends the process that it is about.
sanitizer_environment() {
    export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    # A process that a failing disk ends does not join its threads first.
    export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:report_thread_leaks=0
    TSAN_OPTIONS+=:suppressions=$ROOT/tests/tsan.supp
}

# Sums all suites run so far; the last line is "N passed, N failed, N skipped".
tally() {
    "$PYTHON" -B "$ROOT/scripts/tally.py" --skips "$ROOT/tests/skips" "${RUNS[@]}"
}
