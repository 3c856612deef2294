#!/usr/bin/python3
"""Dependencies point down only: reads every #include of the tree, fails on one against the arrows.

    server/main.c -> server/edge -> server/core -> server/base
                         |             |   (of storage: store.h and merge.h only)
                      storage ---------+
    client/quoit.c, cmd_* -> client -> proto      everything -> proto -> nothing

and third-party headers stay in the one place that is allowed to know them. Includes of the project
are written from its root ("proto/slice.h"), those of the same folder may be written without it.

Prints TAP. `test_arrows.py ROOT`.
"""

import os
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.M)

# Folder -> folders that it may include, besides itself. The longest match names a file's folder.
MAY_INCLUDE = {
    "proto": (),
    "storage": ("proto",),
    "server/base": ("proto",),
    "server/core": ("proto", "server/base"),
    "server/edge": ("proto", "server/base", "server/core", "storage"),
    "server": ("proto", "server/base", "server/core", "server/edge", "storage"),
    "client": ("proto",),
    # Tests look at everything.
    "tests": ("proto", "storage", "server/base", "server/core", "server/edge", "server", "client"),
}

# (folder, header) allowed although the folder is not in the list above.
EXCEPTIONS = {
    ("server/core", "storage/store.h"),
    ("server/core", "storage/merge.h"),
}

# Third-party header -> who may include it. The rest of what is not listed is libc's.
THIRD_PARTY = {
    "uv.h": r"(server/edge/.*|client/client_uv\.[ch]|tests/.*)",
    "lmdb.h": r"(storage/store_lmdb[a-z_]*\.[ch]|tests/.*)",
    "murmurhash.h": r"(proto/token\.c|tests/unit/test_token\.c)",
    "protobuf-c/protobuf-c.h": r"(proto/wire.*|tests/unit/test_descriptor\.c)",
    "isa-l.h": r"storage/.*",
    "isa-l/crc.h": r"storage/.*",
    "xxhash.h": r"(storage/.*|tests/.*)",
    "cyaml/cyaml.h": r"(server/edge/.*|client/.*)",
    "microhttpd.h": r"server/edge/http\.c",
    "argp.h": r"(server/edge/.*|server/main\.c|client/.*|tests/.*)",
    "jansson.h": r"(server/edge/.*|client/.*|tests/.*)",
    "cmocka.h": r"tests/.*",
}
GENERATED = re.compile(r"(proto/wire[a-z_]*\.[ch]|tests/unit/test_descriptor\.c)")

# What a pure folder must not even know.
PURE = ("proto", "server/base", "server/core")
IMPURE = re.compile(
    r"(pthread|threads|time|sys/time|sys/socket|sys/stat|sys/mman|unistd|fcntl|poll|signal|syslog"
    r"|netinet/.*|arpa/.*|netdb|sys/random)\.h")


def folder_of(path):
    best = ""
    for folder in MAY_INCLUDE:
        if path.startswith(folder + "/") and len(folder) > len(best):
            best = folder
    return best


def resolve(root, path, name):
    """The path from the root that a quoted include means, or None if it is not the project's."""
    beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
    for candidate in (os.path.normpath(name), beside):
        if os.path.exists(os.path.join(root, candidate)):
            return candidate
    return None


def third_party(path, name):
    if name.endswith(".pb-c.h"):
        return None if GENERATED.fullmatch(path) else f"{path}: {name} belongs in proto/wire*.c"
    allowed = THIRD_PARTY.get(name)
    if allowed:
        return None if re.fullmatch(allowed, path) else f"{path}: {name} belongs in {allowed}"
    if folder_of(path) in PURE and IMPURE.fullmatch(name):
        return f"{path}: {name} has no place in {folder_of(path)}"
    return None


def check_include(root, path, quoted, angled):
    if angled:
        return third_party(path, angled)
    target = resolve(root, path, quoted)
    if target is None:
        if quoted.endswith(".pb-c.h"):
            return third_party(path, quoted)
        # Generated at build time, or not there: the compiler judges, the arrow by its name.
        target = quoted if "/" in quoted else f"{os.path.dirname(path)}/{quoted}"
        target = os.path.normpath(target)
    here, there = folder_of(path), folder_of(target)
    if not there:
        return f"{path}: {quoted} lies in no folder of the tree"
    if here == there or there in MAY_INCLUDE[here] or (here, target) in EXCEPTIONS:
        return None
    return f"{path}: {here} must not include {target}"


def check_text(root, path, text):
    found = []
    for quoted, angled in INCLUDE.findall(text):
        complaint = check_include(root, path, quoted, angled)
        if complaint:
            found.append(complaint)
    return found


def sources(root):
    for top in ("proto", "storage", "server", "client", "tests"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(folder, name), root)


# What must be complained of, and what must not: the test of the test.
PLANTED_BAD = [
    ("proto/x.c", '#include "storage/store.h"'),
    ("proto/x.c", '#include "server/base/list.h"'),
    ("proto/frame.c", '#include "quoit.pb-c.h"'),
    ("proto/x.c", "#include <unistd.h>"),
    ("storage/x.c", '#include "server/core/ring.h"'),
    ("storage/store_mem.c", "#include <lmdb.h>"),
    ("storage/x.c", "#include <uv.h>"),
    ("server/base/x.c", '#include "server/core/ring.h"'),
    ("server/core/x.c", '#include "storage/store_lmdb.h"'),
    ("server/core/x.c", '#include "storage/record.h"'),
    ("server/core/x.c", '#include "server/edge/loop.h"'),
    ("server/core/x.c", '#include "../edge/loop.h"'),
    ("server/core/x.c", "#  include <uv.h>"),
    ("server/core/x.c", "#include <pthread.h>"),
    ("server/core/x.c", "#include <time.h>"),
    ("server/edge/x.c", '#include "client/quoit.h"'),
    ("server/edge/x.c", "#include <lmdb.h>"),
    ("server/main.c", "#include <lmdb.h>"),
    ("client/x.c", '#include "storage/store.h"'),
    ("client/x.c", '#include "server/core/ring.h"'),
    ("client/route.c", "#include <uv.h>"),
    ("client/x.c", '#include "peer.pb-c.h"'),
    ("tests/unit/test_wire.c", '#include "peer.pb-c.h"'),
    ("storage/x.c", '#include "proto/../server/core/ring.h"'),
]
PLANTED_GOOD = [
    ("proto/wire_peer.c", '#include "peer.pb-c.h"'),
    ("proto/token.c", "#include <murmurhash.h>"),
    ("storage/store_lmdb.c", "#include <lmdb.h>"),
    ("server/core/x.c", '#include "storage/store.h"'),
    ("server/core/x.c", '#include "storage/merge.h"'),
    ("server/core/x.c", '#include "core.h"'),
    ("server/edge/x.c", "#include <uv.h>"),
    ("client/client_uv.c", "#include <uv.h>"),
    ("client/x.c", "#include <argp.h>"),
    ("tests/sim/x.c", '#include "server/core/worker.h"'),
]


def self_test(root):
    wrong = []
    for path, text in PLANTED_BAD:
        if not check_text(root, path, text + "\n"):
            wrong.append(f"not caught: {path}: {text}")
    for path, text in PLANTED_GOOD:
        wrong += [f"caught for nothing: {c}" for c in check_text(root, path, text + "\n")]
    return wrong


def report(number, name, complaints):
    for c in complaints:
        print(f"# {c}")
    print(f"{'not ok' if complaints else 'ok'} {number} - {name}")
    return not complaints


def main():
    root = sys.argv[1]
    paths = list(sources(root))
    complaints = []
    n_includes = 0
    for path in paths:
        with open(os.path.join(root, path), encoding="utf-8") as f:
            text = f.read()
        n_includes += len(INCLUDE.findall(text))
        complaints += check_text(root, path, text)
    print("1..3")
    ok = report(1, "planted includes are caught, good ones are not", self_test(root))
    few = [] if len(paths) > 20 and n_includes > 60 else [f"only {len(paths)} files found"]
    ok &= report(2, f"the tree was read: {len(paths)} files, {n_includes} includes", few)
    ok &= report(3, "includes follow the arrows", complaints)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
