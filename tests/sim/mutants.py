#!/usr/bin/python3
"""Plants mistakes in the core, one at a time, and demands that each is found.

Each mutant is one small change of the text of one source file, most of them mistakes that somebody
made or that the literature reports; those that the simulator itself found are marked. The changed
file is compiled with the flags of the build and linked in front of the libraries, so that
everything else stays as it is. A mutant whose text is not found (because the code has moved on) is
a failure: the list has to follow the code.

    mutants.py SOURCE_ROOT BUILD_ROOT [NAME ...]      prints TAP
    mutants.py --texts SOURCE_ROOT                    only that: builds and runs nothing

A mutant must be caught within SEEDS runs of sim, those of PURGE_MUTANTS with --purge; those of
UNIT_MUTANTS by a unit test; those of membership (GOSSIP_MUTANTS) by `gossip --check`; those of the
register (REGISTER_MUTANTS) within REGISTER_SEEDS runs of registers.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

SEEDS = 1500
REGISTER_SEEDS = 2000

# (name, folder, text that occurs once in the folder's sources, replacement)
MUTANTS = [
    ("answers before what it shows is durable", "server/core",
     "if (in->u.got.lsn > w->durable_lsn) {", "if (false) {"),
    ("a corrupt record is taken for an absent one", "server/core",
     "err = in->u.got.error ? -in->u.got.error : replica_check(w, &p->replica);",
     "err = replica_check(w, &p->replica);"),
    ("acknowledges before the sync", "storage",
     "q->dones[q->first].lsn <= m->durable", "true"),
    ("one of three is a quorum", "server/core",
     "return n / 2 + 1;", "return n > 2 ? n / 2 : n / 2 + 1;"),
    ("all means a quorum", "server/core",
     "case LEVEL_ALL:\n        return n;", "case LEVEL_ALL:\n        return n / 2 + 1;"),
    ("superseded counts without a new stamp", "server/core",
     "(s->outcome == OUTCOME_SUPERSEDED && !op->first_hand &&",
     "(s->outcome == OUTCOME_SUPERSEDED &&"),
    # found by the simulator
    ("a new ring counts as a new stamp", "server/core",
     "(s->outcome == OUTCOME_SUPERSEDED && !op->first_hand &&",
     "(s->outcome == OUTCOME_SUPERSEDED && op->round > 0 &&"),
    ("stamps anew, not above what it saw", "server/core",
     "if (s->phase == PHASE_DONE && s->answer.version.hlc > highest)", "if (false)"),
    ("forced stamps repeat themselves", "server/core",
     "version_hlc_from_ms(ms) | (n & 0xffff)", "version_hlc_from_ms(ms) | (n & 0)"),
    # found by the simulator
    ("gives up when one slot has something newer", "server/core",
     "(may_restamp ? t.done : acks) +", "acks +"),
    ("forgets that a resent write may have arrived", "server/core",
     "s->lost = s->lost || s->phase == PHASE_ASKED;\n            put_ask", "put_ask"),
    ("forgets that a write to a node that went down may have arrived",
     "server/core",
     "s->lost = s->lost || s->phase == PHASE_ASKED; /* it may", "/* it may"),
    # found by the simulator
    ("a new ring forgets where a write may be", "server/core",
     "op->slots[0].maybe = op->slots[0].lost = maybe;", "op->slots[0].maybe = maybe;"),
    ("a write past its deadline was not written", "server/core",
     "if ((op->kind == OP_PUT || op->kind == OP_DELETE) && op_tally(op).maybe)", "if (false)"),
    ("never looks at the deadline", "server/core",
     "at_ms < op->deadline_ms ? at_ms : op->deadline_ms", "at_ms + 3600000"),
    ("answers to an earlier operation count", "server/core",
     "(uint64_t)(op->generation & 0x7fffffffu) << 32 |", "(uint64_t)0 |"),
    ("answers to an earlier round count", "server/core",
     "(uint64_t)op->round << 24 |", "(uint64_t)0 |"),
    ("joining slots are counted", "server/core",
     "if (op->entry.slots[i].state != SLOT_READY || s->phase != PHASE_DONE)",
     "if (op->entry.slots[i].state == SLOT_NONE || s->phase != PHASE_DONE)"),
    ("never gives back the bytes of an operation", "server/core",
     "w->inflight_bytes -= op->charged;", ""),
    ("a get answers what it saw on one slot", "server/core",
     "else if (view.agree)", "else if (true)"),
    ("a get answers with any whole state", "server/core",
     "if (fresh && version_compare(fresh->version, answers[view.newest].version) == 0)",
     "if (fresh)"),
    ("a get takes who is silent for a holder", "server/core",
     "if (!a->answered)\n        return false;", "if (!a->answered)\n        return true;"),
    ("a read merges to the oldest", "server/core",
     "version_compare(a->version, answers[view.newest].version) > 0",
     "version_compare(a->version, answers[view.newest].version) < 0"),
    ("a scan merges to the oldest", "server/core",
     "version_compare(head->record->state.version, newest->state.version) > 0",
     "version_compare(head->record->state.version, newest->state.version) < 0"),
    ("a scan reads past where a page broke off", "server/core",
     "else if (answer->more)", "else if (false)"),
    # found by the simulator
    ("a relayed put is never forgotten", "server/core",
     "if (is_relayed(p->from, p->id))\n            pending_refuse",
     "if (false)\n            pending_refuse"),
    ("stamps at once after a start", "server/core",
     ".start_ms = bound_ms", ".start_ms = 0"),
    ("stamps without a lease", "server/core",
     "if (version_wall_ms(next) > c->bound_ms)", "if (false)"),
    ("follows any clock", "server/core",
     "if (!clock_guards(wall_ms, hlc))\n        return false;", ""),
    ("a failed renewal of the lease is never asked for again", "server/core",
     "c->asked_ms = 0;\n    if (took_ms", "if (took_ms"),
    ("the store keeps the older state", "storage",
     "return order > 0 ? OUTCOME_STORED", "return order < 0 ? OUTCOME_STORED"),
    ("what was fetched is not stored", "server/core",
     "            emit_merge(w, s, p->n_emitted++, out);",
     "            p->n_emitted++;"),
    ("sends what the asker has, and not what it lacks", "server/core",
     "    if (!has)\n        return true;\n    order",
     "    if (!has)\n        return false;\n    order"),
    ("sends the older of two", "server/core",
     "    return order > 0;\n}\n\n/* Of the whole stretch",
     "    return order < 0;\n}\n\n/* Of the whole stretch"),
    ("a comparison of a leaf skips its neighbours", "server/core",
     "s->next[s->n_next++] = arc * n + i;", "s->next[s->n_next++] = arc * n + (i & ~1u);"),
    ("heals with one answer", "server/core",
     "return h->source ? 1 : h->entry.n_ready / 2 + 1;", "return 1;"),
    ("heals with the first answer, not the newest", "server/core",
     "    if (merge_states(&h->state, state) != OUTCOME_STORED)\n        return true;",
     "    if (h->state.kind != STATE_NONE)\n        return true;"),
    ("never heals", "server/core",
     "        if (!is_due(h, w->now_ms) || w->stopping)", "        if (true)"),
    ("a get answers while its write-back is under way", "server/core",
     "if (t.done < op->need) {\n        read_review(w, op, get_back_ask, out);",
     "if (t.done + t.asked < op->need) {\n        read_review(w, op, get_back_ask, out);"),
    ("works on what is past its deadline", "server/core",
     "if (until_ms && until_ms <= w->now_ms) {", "if (false) {"),
    ("a put that is dropped for its deadline is told as refused", "server/core",
     "w->stats.n_dropped++;\n    if (is_relayed(from, msg->id))", "w->stats.n_dropped++;"),
    ("a relayed request that is dropped is never forgotten", "server/core",
     "w->stats.n_dropped++;\n    if (is_relayed(from, msg->id))",
     "w->stats.n_dropped++;\n    if (false)"),
    ("what the edge drops is never forgotten", "server/core",
     "if (done->error == -ERR_DEADLINE) {\n        pending_drop(w, p, out);",
     "if (done->error == -ERR_DEADLINE) {"),
]


# Caught with --purge. What the model (tests/spin) found to bring deleted values back.
PURGE_MUTANTS = [
    ("a write below an opened floor is taken", "server/core",
     "e->u.store.floor = floor ? &floor->opened : NULL;", "e->u.store.floor = NULL;"),
    ("a purge round is content with a quorum", "server/core",
     "if (!pu->slots[i].answered)\n            return false;\n    return true;",
     "if (!pu->slots[i].answered && i > 0)\n            return i > pu->entry.n_slots / 2;\n"
     "    return true;"),
]

# Of the same rules: what the other rules make up for, but for several failures in a row within the
# time that a late message has. The simulator would be looking for them for days; each has a story
# among UNIT_TESTS that fails.
UNIT_MUTANTS = [
    ("a floor is said to be open before it is on disk", "server/core",
     "if (!floor_open(w, msg->replica.partition, msg->u.purge.floor, pending_cookie(w, p), out))\n"
     "            pending_refuse(w, p, ERR_NO_MEMORY, out);\n        return;",
     "floor_open(w, msg->replica.partition, msg->u.purge.floor, FLOOR_COOKIE, out);\n"
     "        break;"),
    ("floors are forgotten at a restart", "server/core",
     "f->opened = fact->opened;\n    f->closed = fact->closed;", ""),
    ("lists of a purge round that differ are taken for equal", "server/core",
     "if (pu->n_differ == 0) {", "if (true) {"),
    ("what enters during a purge round is not noticed", "server/core",
     "pu->entered_since |= s->entered != msg->u.purge_reply.entered;", ""),
    ("absent answers carry no floor", "server/core",
     "reply->u.get_reply.floor = floor_closed(w, p->replica.partition);", ""),
    ("a scan brings back what a floor has buried", "server/core",
     "floor = m->op->scans[i].floor;", ";"),
    ("a write-back refused by a floor counts as held", "server/core",
     "if (!p->source || !p->bytes)\n        return false;\n",
     "reply->u.put_reply.outcome = OUTCOME_DUPLICATE;\n    return false;\n"),
    ("nothing is fetched that a floor kept out", "server/core",
     "heal_fetch(w, blob_slice(p->bytes), p->source - 1);", ";"),
    ("removed tombstones are not covered by the floor of absent answers", "server/core",
     "return newest->deleted && newest->version.hlc <= a->floor;", "return false;"),
    # of the register: what costs no safety, or is found by one story better than by many seeds
    ("V4: a new voter is asked together with the others", "server/core",
     "    if (!newcomer) {\n        send_accepts(r);", "    if (true) {\n        send_accepts(r);"),
    ("V5: the new voters are not asked", "server/core",
     "    else if (set_majority(&p->offered->before, &p->answered) &&\n"
     "             set_majority(&p->offered->voters, &p->answered))",
     "    else if (set_majority(&p->offered->before, &p->answered))"),
    ("what waits for the disk is never looked at again", "server/core",
     "    while (!a->is_writing && a->n_waiting > 0) {", "    while (false) {"),
    ("an attempt without a majority never ends", "server/core",
     "    p->due_ms = r->now_ms + REGISTER_ROUND_MS;\n    r->stats.n_rounds++;",
     "    p->due_ms = UINT64_MAX;\n    r->stats.n_rounds++;"),
]

UNIT_TESTS = ["test_purge", "test_floor", "test_core_values", "test_register",
              "test_register_voters"]

# What nobody would notice in a small cluster on a good day.
GOSSIP_MUTANTS = [
    ("anybody may take a suspicion back", "server/core",
     "return r->state > n->state;", "return r->state != n->state;"),
    ("nobody refutes", "server/core",
     "self->refutation = refutation + 1;", "self->refutation = refutation;"),
    ("suspects are buried at once", "server/core",
     "return n->since_ms + least_ms + more_ms", "return n->since_ms + 0 * more_ms"),
    ("confirmations do not count", "server/core",
     "if (n >= of)\n        return 64;", "if (of == 0)\n        return 64;"),
    ("rumours are told once", "server/core",
     "return MEMBERSHIP_SENDS * digits < SENDS_MAX", "return 1; return SENDS_MAX > digits"),
    ("answers are not heard", "server/core",
     "p->target = NODE_NONE;\n    health_change(m, -1);", "health_change(m, -1);"),
    ("a death is kept to oneself", "server/core",
     "set_state(m, n, MEMBER_DOWN);\n        tell_news(m, n, false);",
     "set_state(m, n, MEMBER_ALIVE);"),
]

# Caught by the simulator of the register. What its rules are for, one by one (register.h), and the
# mistakes that its models and the literature tell of.
REGISTER_MUTANTS = [
    ("a promise is said before it is on disk", "server/core",
     "    a->is_writing = true;\n    a->writing = *q;\n    e = register_emit",
     "    a->is_writing = true;\n    a->writing = *q;\n"
     "    if (q->type == PEER_REGISTER_PREPARE)\n        answer(r, q);\n    e = register_emit"),
    ("a ring is said to be accepted before it is on disk", "server/core",
     "    a->is_writing = true;\n    a->writing = *q;\n    e = register_emit",
     "    a->is_writing = true;\n    a->writing = *q;\n"
     "    if (q->type == PEER_REGISTER_ACCEPT)\n        answer(r, q);\n    e = register_emit"),
    ("a failed write is answered", "server/core",
     "    if (error == 0) {\n        if (q.type == PEER_REGISTER_PREPARE) {",
     "    if (error <= 0) {\n        if (q.type == PEER_REGISTER_PREPARE) {"),
    ("promises are forgotten at a restart", "server/core",
     "promise.len ? register_promise_unpack(promise, &a->promise) : 0;",
     "promise.len > 9999 ? register_promise_unpack(promise, &a->promise) : 0;"),
    ("what was accepted is forgotten at a restart", "server/core",
     "if (rc == 0 && accepted.len) {", "if (rc == 0 && accepted.len > 99999) {"),
    ("accepting does not promise", "server/core",
     "return ballot_compare(&a->accepted, &a->promise) > 0 ? &a->accepted : &a->promise;",
     "return &a->promise;"),
    ("lower ballots are accepted", "server/core",
     "    if (order < 0)\n        refuse(r, q);",
     "    if (order < 0 && q->type == PEER_REGISTER_PREPARE)\n        refuse(r, q);"),
    ("a ballot is used again after a restart", "server/core",
     ".counter = ++r->counter, .node = r->self, .boot = r->boot}",
     ".counter = ++r->counter, .node = r->self, .boot = 1}"),
    ("what was accepted is taken for decided", "server/core",
     "    } else if (read->epoch > p->base->epoch) {\n",
     "    } else if (read->epoch > p->base->epoch) {\n        settle(r, read);\n        return;\n"),
    ("after a restart what was accepted is taken for decided", "server/core",
     "    register_hear(r, &a->promise);\n    register_hear(r, &a->accepted);",
     "    if (a->value && a->value->epoch > r->decided->epoch) {\n"
     "        value_unref(r->decided);\n        r->decided = value_ref(a->value);\n    }"),
    ("the lowest ballot is read", "server/core",
     "if (ballot_compare(&reg->accepted, &p->best) > 0 && !read_better",
     "if (reg->accepted.counter && (!p->read || ballot_compare(&reg->accepted, &p->best) < 0) &&"
     " !read_better"),
    ("what was read is not looked at", "server/core",
     "    if (!read && p->base->epoch == 1)\n        read = p->base;",
     "    read = p->base;"),
    ("half of the voters are a majority", "server/core",
     "return set->n - n_lacking(set, answered) > set->n / 2;",
     "return set->n - n_lacking(set, answered) >= (set->n + 1) / 2;"),
    ("answers to an earlier attempt promise", "server/core",
     "if (p->phase != PROPOSER_PREPARING || ballot_compare(&reg->ballot, &p->ballot) != 0 ||",
     "if (p->phase != PROPOSER_PREPARING ||"),
    ("answers to an earlier attempt accept", "server/core",
     "PROPOSER_ACCEPTING) ||\n        ballot_compare(&reg->ballot, &p->ballot) != 0 ||",
     "PROPOSER_ACCEPTING) ||"),
    ("V2: what is finished is finished by anybody", "server/core",
     "if (set_equal(&read->voters, &p->asked) || set_equal(&read->before, &p->asked))",
     "if (true)"),
    ("V3: voters are exchanged", "server/core",
     "    if (set_distance(&held->voters, &next->voters) > 1)\n"
     "        return \"it changes more than one voter\";\n", ""),
    ("V4: a change is computed from what was not read", "server/core",
     "} else if (p->wanted && p->wanted->epoch == read->epoch + 1) {", "} else if (p->wanted) {"),
    ("V5: the old voters are not asked", "server/core",
     "    else if (set_majority(&p->offered->before, &p->answered) &&\n"
     "             set_majority(&p->offered->voters, &p->answered))",
     "    else if (set_majority(&p->offered->voters, &p->answered))"),
    ("V5: whoever finishes a change of voters forgets the old ones", "server/core",
     "    else if (set_majority(&p->offered->before, &p->answered) &&\n",
     "    else if ((p->offered != p->wanted ||\n"
     "              set_majority(&p->offered->before, &p->answered)) &&\n"),
    ("V6: what a voter has accepted it takes for decided", "server/core",
     "            a->accepted = q.ballot;\n",
     "            a->accepted = q.ballot;\n            if (q.value->epoch > r->decided->epoch)\n"
     "                r->decided = value_ref(q.value);\n"),
    ("what cannot be told is told to have failed", "server/core",
     "finish(r, p->sent ? REGISTER_UNKNOWN : REGISTER_CONFLICT, value);",
     "finish(r, REGISTER_CONFLICT, value);"),
    ("what may come is told not to have been proposed", "server/core",
     "finish(r, p->sent ? REGISTER_UNKNOWN : REGISTER_NOTHING, NULL);",
     "finish(r, REGISTER_NOTHING, NULL);"),
    ("any ring of the epoch is taken for one's own", "server/core",
     "value_same(value, p->wanted) ? REGISTER_DECIDED : REGISTER_CONFLICT, value);",
     "REGISTER_DECIDED, value);"),
    ("a refused proposer does not learn how high it has to go", "server/core",
     "    register_hear(r, &reg->ballot);\n    register_hear(r, &reg->promised);\n", ""),
]


def command_of(build, path):
    """The compiler call for a file, without its output and dependency options."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        for entry in json.load(f):
            if entry["file"].endswith(path):
                words = shlex.split(entry["command"])
                break
        else:
            raise KeyError(path)
    keep, skip = [], 0
    for word in words:
        if skip:
            skip -= 1
        elif word in ("-o", "-MF", "-MQ", "-c"):
            skip = 1
        elif word not in ("-MD",):
            keep.append(word)
    return keep


def libraries():
    """What an executable of the simulator is linked with, besides its own objects."""
    archives = ["server/core/libcore.a", "server/base/libbase.a", "storage/libstorage.a",
                "storage/libstorage_pure.a", "proto/libproto.a", "proto/libquoitpb.a"]
    names = ["libprotobuf-c", "libmurmurhash", "libisal", "libxxhash", "lmdb", "cmocka"]
    flags = subprocess.run(["pkg-config", "--libs"] + names, check=True, stdout=subprocess.PIPE,
                           text=True).stdout.split()
    return archives, flags + ["-lpthread"]


def places_of(source, folder, old):
    """The files in which the text occurs, each as often as it does, with what they contain."""
    found = []
    for name in sorted(os.listdir(os.path.join(source, folder))):
        if name.endswith(".c"):
            with open(os.path.join(source, folder, name), encoding="utf-8") as f:
                text = f.read()
            found += [(f"{folder}/{name}", text)] * text.count(old)
    return found


def build_mutant(source, build, work, program, folder, old, new):
    """Compiles and links one mutant; returns the executable, or a reason in a one-element list."""
    found = places_of(source, folder, old)
    if len(found) != 1:
        return [f"its text occurs {len(found)} times in {folder}"]
    path, text = found[0]
    mutant = os.path.join(work, os.path.basename(path))
    with open(mutant, "w", encoding="utf-8") as f:
        f.write(text.replace(old, new))
    compiler = command_of(build, path)
    done = subprocess.run(compiler + ["-w", "-Wno-error", "-c", mutant, "-o", mutant + ".o"],
                          cwd=build, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return ["it does not compile: " + done.stderr.strip().splitlines()[0]]
    archives, flags = libraries()
    objects = os.path.join(build, f"tests/{program}.p")
    objects = [os.path.join(objects, name) for name in sorted(os.listdir(objects))
               if name.endswith(".o")]
    exe = os.path.join(work, os.path.basename(program))
    sanitize = [word for word in compiler if word.startswith("-fsanitize")]
    done = subprocess.run([compiler[0]] + sanitize + ["-o", exe] + objects + [mutant + ".o"] +
                          ["-Wl,--start-group"] + archives + ["-Wl,--end-group"] + flags,
                          cwd=build, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return ["it does not link: " + done.stderr.strip().splitlines()[-1]]
    return exe


ARGUMENTS = {"sim": ["--first", "--quiet", "--seeds", f"1..{SEEDS}"], "gossip": ["--check"],
             "registers": ["--seeds", f"1..{REGISTER_SEEDS}"]}
ARGUMENTS["purge"] = ["--purge"] + ARGUMENTS["sim"]


def try_unit_tests(source, build, work, folder, old, new):
    for test in UNIT_TESTS:
        exe = build_mutant(source, build, work, f"unit/{test}", folder, old, new)
        if isinstance(exe, list):
            return False, exe[0]
        try:
            run = subprocess.run([exe], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                 timeout=120, check=False)
        except subprocess.TimeoutExpired:
            return True, f"{test} does not end"
        failed = re.search(r"^\[  FAILED  \] (\w+)$", run.stdout, re.M)
        if run.returncode:
            return True, f"{test}: {failed.group(1) if failed else 'it crashes'}"
    return False, f"survived {', '.join(UNIT_TESTS)}"


def try_mutant(source, build, program, folder, old, new):
    """Returns (caught, what happened)."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as work:
        made = "sim/sim" if program == "purge" else f"sim/{program}"
        if program == "unit":
            return try_unit_tests(source, build, work, folder, old, new)
        exe = build_mutant(source, build, work, made, folder, old, new)
        if isinstance(exe, list):
            return False, exe[0]
        try:
            run = subprocess.run([exe] + ARGUMENTS[program], stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, timeout=600, check=False)
        except subprocess.TimeoutExpired:
            return False, "no end within ten minutes"
    lines = run.stdout.strip().splitlines()
    for line in lines:
        if " FAILED " in line or line.startswith("FAILED"):
            return True, line
    if run.returncode < 0 or "Assertion" in run.stdout:
        return True, f"it crashes (signal {-run.returncode})"
    return False, f"survived {' '.join(ARGUMENTS[program])}"


def check_texts(source):
    """Whether each mutant's text occurs once, and each name."""
    every = MUTANTS + PURGE_MUTANTS + UNIT_MUTANTS + GOSSIP_MUTANTS + REGISTER_MUTANTS
    names = [m[0] for m in every]
    print(f"1..{len(every)}")
    failed = 0
    for number, (name, folder, old, new) in enumerate(every, 1):
        n = len(places_of(source, folder, old))
        good = n == 1 and new != old and names.count(name) == 1
        failed += not good
        print(f"{'ok' if good else 'not ok'} {number} - {name}")
        if not good:
            print(f"# its text occurs {n} times in {folder}, its name {names.count(name)} times")
    return 1 if failed else 0


def main():
    if sys.argv[1] == "--texts":
        return check_texts(os.path.abspath(sys.argv[2]))
    source, build, names = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3:]
    every = [("sim",) + m for m in MUTANTS] + [("purge",) + m for m in PURGE_MUTANTS]
    every += [("unit",) + m for m in UNIT_MUTANTS]
    every += [("gossip",) + m for m in GOSSIP_MUTANTS]
    every += [("registers",) + m for m in REGISTER_MUTANTS]
    chosen = [m for m in every if not names or m[1] in names]
    print(f"1..{len(chosen)}", flush=True)
    failed = 0
    for number, (program, name, folder, old, new) in enumerate(chosen, 1):
        caught, what = try_mutant(source, build, program, folder, old, new)
        failed += not caught
        print(f"{'ok' if caught else 'not ok'} {number} - {name}\n# {what}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
