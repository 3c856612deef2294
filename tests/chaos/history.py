"""history: what was written, what came of it, and whether an answer may be true.

A pure value: it is told each operation when it begins and when it ends, with the time, and finds
violations. It knows nothing of sockets, nodes or faults, so it is tested with made-up histories
(test_history.py).

A write ends in one of three ways:
    acknowledged   it is on disk at a quorum, under the version in the answer
    refused        the node has said that nothing was written: its value may never be seen
    unknown        no answer, or one that leaves it open: it may take effect once, at any time from
                   its beginning on, so it is concurrent with everything that follows

Rules, of which the first four lean on the order of events at the client alone, and would hold for
a store that lies about versions:
    1  a value that was read was written, to this key, and not refused; all its bytes are right
    2  acknowledged values do not vanish: not after W ended did a W' begin that was acknowledged
       before the read began. This is also how a deleted key comes back
    3  nothing is not read unless a delete may be the last write by the same measure
    4  what a settling read has buried stays buried (see settle)
    5  versions read at a quorum never fall, and are not below any acknowledged before the read
    6  an acknowledged write has a version above all that were held at a quorum when it began
    7  an acknowledged write is read under the version of its acknowledgement, or an earlier one
       (it was stamped anew before that)

Rules 2 and 3 take concurrent writes to a key as they come: last-writer-wins keeps any one of them.
"""

VIOLATIONS_MAX = 1000  # kept in full; more are counted only
NONE = (0, 0)  # no version

PENDING, ACKNOWLEDGED, REFUSED, UNKNOWN = "pending", "acknowledged", "refused", "unknown"

# The body of a value is a piece of this, chosen by its number, so that values differ in length and
# any byte that is not its own shows.
FILLER = bytes((i * i * 7 + i * 13 + (i >> 8) * 31) & 0xff for i in range(8192))
HEAD_BYTES = 16
BODY_BYTES_MAX = 400


def value_of(number):
    """The bytes of write `number`."""
    start = number * 2654435761 % (len(FILLER) - BODY_BYTES_MAX)
    return b"%016d" % number + FILLER[start:start + number % BODY_BYTES_MAX]


def number_of(value):
    """The write that this is the whole value of, or None."""
    head = value[:HEAD_BYTES]
    if len(head) != HEAD_BYTES or not head.isdigit():
        return None
    number = int(head)
    return number if value == value_of(number) else None


class Write:
    __slots__ = ("key", "number", "deletes", "began", "ended", "state", "version", "floor")

    def __init__(self, key, number, deletes, began):
        self.key, self.number, self.deletes, self.began = key, number, deletes, began
        self.ended = None  # of an acknowledged one
        self.state = PENDING
        self.version = NONE
        self.floor = key.version


class Read:
    __slots__ = ("key", "floor", "newest_began")

    def __init__(self, key):
        self.key = key
        self.floor = key.version
        self.newest_began = key.newest_began


class Key:
    __slots__ = ("name", "writes", "version", "newest_began", "absent_ended", "deletes_open",
                 "settled")

    def __init__(self, name):
        self.name = name
        self.writes = {}  # number -> Write whose value may be read
        self.version = NONE  # highest known to be held at a quorum
        self.newest_began = -1.0  # latest beginning of an acknowledged write
        self.absent_ended = 0.0  # latest end of an acknowledged delete; nothing is there at first
        self.deletes_open = 0  # pending and unknown ones
        self.settled = None  # (found, number) of the last settling read


class History:
    def __init__(self):
        self.keys = {}
        self.n_writes = self.n_acknowledged = self.n_refused = self.n_unknown = 0
        self.n_reads = self.n_settled = 0
        self.n_violations = 0
        self.violations = []  # (key name, sentence)

    def key(self, name):
        found = self.keys.get(name)
        if found is None:
            found = self.keys[name] = Key(name)
        return found

    def _violated(self, key, sentence):
        self.n_violations += 1
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append((key.name, sentence))

    def contradict(self, name, sentence):
        """Two answers that cannot both be true, found by whoever compares them."""
        self._violated(self.key(name), sentence)

    # ---- writes

    def begin_write(self, name, deletes, now):
        key = self.key(name)
        self.n_writes += 1
        write = Write(key, self.n_writes, deletes, now)
        if deletes:
            key.deletes_open += 1
        else:
            key.writes[write.number] = write
        return write

    def acknowledge(self, write, version, now):
        key = write.key
        self.n_acknowledged += 1
        write.state, write.version, write.ended = ACKNOWLEDGED, version, now
        if version <= write.floor:
            self._violated(key, f"write {write.number} was acknowledged under {version}, not above "
                                f"{write.floor}, which was there when it began")
        key.version = max(key.version, version)
        key.newest_began = max(key.newest_began, write.began)
        if write.deletes:
            key.deletes_open -= 1
            key.absent_ended = max(key.absent_ended, now)

    def refuse(self, write):
        self.n_refused += 1
        write.state = REFUSED
        if write.deletes:
            write.key.deletes_open -= 1

    def leave_open(self, write):
        """Its outcome is unknown."""
        self.n_unknown += 1
        write.state = UNKNOWN

    # ---- reads

    def begin_read(self, name):
        return Read(self.key(name))

    def _check_found(self, read, number, version, how):
        key, write = read.key, read.key.writes.get(number)
        if write is None:
            what = "was never written to it" if number > self.n_writes else \
                "was buried by a settling read, or belongs to another key"
            self._violated(key, f"{how} returns value {number}, which {what}")
        elif write.state == REFUSED:
            self._violated(key, f"{how} returns value {number}, which was refused: \"nothing was "
                                "written\"")
        elif write.state == ACKNOWLEDGED and write.ended < read.newest_began:
            self._violated(key, f"{how} returns value {number} (acknowledged at {write.ended:.3f} "
                                f"s), though a write that began later, at {read.newest_began:.3f} "
                                "s, was acknowledged before the read")
        elif write.state == ACKNOWLEDGED and version > write.version:
            self._violated(key, f"{how} returns value {number} under {version}, which was "
                                f"acknowledged under {write.version}")

    def _check_absent(self, read, how):
        key = read.key
        if key.deletes_open == 0 and key.absent_ended < read.newest_began:
            self._violated(key, f"{how} finds nothing, though a write that began at "
                                f"{read.newest_began:.3f} s was acknowledged before it, and the "
                                f"last delete had ended at {key.absent_ended:.3f} s")

    def answer(self, read, found, value, version, how):
        """A read at quorum or all has been answered; how says through whom, for the sentence.
        Version NONE with an absent key says nothing about versions."""
        key = read.key
        self.n_reads += 1
        if found:
            number = number_of(value)
            if number is None:
                self._violated(key, f"{how} returns {len(value)} bytes that nobody wrote: "
                                    f"{value[:24]!r}")
            else:
                self._check_found(read, number, version, how)
        else:
            self._check_absent(read, how)
        if version < read.floor and (found or version != NONE):
            self._violated(key, f"{how} returns version {version}, below {read.floor}, which was "
                                "there before")
        key.version = max(key.version, version)

    def settle(self, name, found, value, version, now):
        """Every replica has just answered (level all), nothing is under way anywhere and nothing
        can still arrive: what was read is what the key holds. Writes of unknown outcome that are
        not it have failed, or were overwritten: they can never be seen any more."""
        key = self.key(name)
        number = number_of(value) if found else None
        write = key.writes.get(number)
        self.n_settled += 1
        key.writes = {}
        key.deletes_open = 0
        key.absent_ended = -1.0 if found else now
        key.settled = (found, number)
        if write is not None:
            write.state, write.version, write.ended = ACKNOWLEDGED, version, now
            key.writes[number] = write
            key.newest_began = max(key.newest_began, write.began)
        key.version = max(key.version, version)
