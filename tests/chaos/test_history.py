#!/usr/bin/python3
"""The checker, checked: made-up histories that are right, and one for each rule that is not.

    test_history.py        prints TAP
"""

import sys
import traceback

from history import NONE, History, number_of, value_of


class Story:
    """A history of one key, told line by line; time passes by one with each line."""

    def __init__(self):
        self.history, self.now, self.version = History(), 0.0, 0

    def _tick(self):
        self.now += 1.0
        return self.now

    def begin(self, deletes=False):
        return self.history.begin_write(b"k", deletes, self._tick())

    def ack(self, write, version=None):
        self.version = version or self.version + 1
        self.history.acknowledge(write, (self.version, 1), self._tick())
        return write

    def put(self, version=None):
        return self.ack(self.begin(), version)

    def delete(self, version=None):
        return self.ack(self.begin(deletes=True), version)

    def unknown(self, deletes=False):
        write = self.begin(deletes)
        self._tick()
        self.history.leave_open(write)
        return write

    def refused(self, deletes=False):
        write = self.begin(deletes)
        self._tick()
        self.history.refuse(write)
        return write

    def reads(self, write, version=None, begun=None):
        read = begun or self.history.begin_read(b"k")
        self._tick()
        value = b"" if write is None else value_of(write.number)
        number = self.version if version is None else version
        self.history.answer(read, write is not None, value, (number, 1) if number else NONE,
                            "a read")
        return self

    def settles(self, write, version=None):
        value = b"" if write is None else value_of(write.number)
        self.history.settle(b"k", write is not None, value, (version or self.version, 1),
                            self._tick())
        return self

    def is_right(self):
        assert self.history.n_violations == 0, self.history.violations

    def is_wrong(self, part):
        found = self.history.violations
        assert len(found) == self.history.n_violations == 1, found
        assert found[0][0] == b"k" and part in found[0][1], found


def values_are_told_apart():
    assert len({value_of(n) for n in range(1, 3000)}) == 2999
    assert all(number_of(value_of(n)) == n for n in range(1, 3000))
    whole = value_of(1234)
    for broken in (b"", whole[:-1], whole + b"x", b"x" + whole[1:],
                   whole[:20] + b"\0" + whole[21:]):
        assert number_of(broken) is None, broken


def what_was_acknowledged_is_read():
    s = Story()
    s.reads(None, version=0)
    s.reads(s.put()).reads(s.put()).is_right()
    s.delete()
    s.reads(None).is_right()
    s.reads(s.put()).is_right()


def a_lost_write_is_seen():
    s = Story()
    old = s.put()
    s.put()
    s.reads(old, version=2)
    s.is_wrong("was acknowledged before the read")


def a_lost_key_is_seen():
    s = Story()
    s.put()
    s.reads(None, version=0).is_wrong("finds nothing")


def a_deleted_key_that_comes_back_is_seen():
    s = Story()
    old = s.put()
    s.delete()
    s.reads(old, version=2).is_wrong("was acknowledged before the read")


def a_deleted_key_may_be_written_again():
    s = Story()
    s.put()
    s.delete()
    s.reads(s.unknown(), version=9).is_right()


def concurrent_writes_may_end_either_way():
    s = Story()
    one, two = s.begin(), s.begin()
    s.ack(one, 5)
    s.ack(two, 4)
    s.reads(one, version=5).is_right()
    s = Story()
    one, two = s.begin(), s.begin(deletes=True)
    s.ack(two, 5)
    s.ack(one, 4)
    s.reads(None, version=5).is_right()


def a_read_beside_a_write_may_see_either():
    s = Story()
    old = s.put()
    new = s.begin()
    read = s.history.begin_read(b"k")
    s.ack(new)
    s.reads(old, version=1, begun=read)
    s.is_right()
    s.reads(old, version=2).is_wrong("was acknowledged before the read")


def an_unknown_write_may_come_late_and_not_twice():
    s = Story()
    late = s.unknown()
    new = s.put()
    s.reads(new).reads(late, version=7).is_right()
    s.reads(new, version=1).is_wrong("below (7, 1)")


def an_unknown_delete_may_come_late():
    s = Story()
    s.put()
    s.unknown(deletes=True)
    s.reads(None, version=3).is_right()


def a_refused_write_is_never_seen():
    s = Story()
    s.put()
    s.reads(s.refused(), version=2).is_wrong("was refused")
    s = Story()
    s.put()
    s.refused(deletes=True)
    s.reads(None, version=2).is_wrong("finds nothing")


def strange_bytes_are_seen():
    s = Story()
    s.put()
    s.history.answer(s.history.begin_read(b"k"), True, b"rubbish", (1, 1), "a read")
    s.is_wrong("nobody wrote")


def a_value_of_another_key_is_seen():
    s = Story()
    s.put()
    other = s.history.begin_write(b"other", False, s.now)
    s.reads(other).is_wrong("belongs to another key")
    s = Story()
    s.history.answer(s.history.begin_read(b"k"), True, value_of(77), (1, 1), "a read")
    s.is_wrong("was never written")


def versions_never_fall():
    s = Story()
    w = s.put(5)
    s.reads(w, version=4)
    s.is_wrong("below (5, 1)")


def an_acknowledgement_is_above_what_was_there():
    s = Story()
    s.put(5)
    s.put(5)
    s.is_wrong("not above (5, 1)")
    s = Story()
    s.reads(s.unknown(), version=8)
    s.put(7)
    s.is_wrong("not above (8, 1)")


def an_acknowledged_write_is_not_stamped_again():
    s = Story()
    w = s.put(5)
    s.reads(w, version=6)
    s.is_wrong("was acknowledged under (5, 1)")


def what_was_settled_stays_buried():
    s = Story()
    s.put()
    open_put = s.unknown()
    s.settles(s.put()).is_right()
    s.reads(open_put, version=9).is_wrong("buried")
    s = Story()
    s.unknown(deletes=True)
    w = s.put()
    s.settles(w)
    s.reads(None, version=9).is_wrong("finds nothing")
    s = Story()
    w = s.put()
    s.unknown(deletes=True)
    s.settles(None)
    s.reads(None).is_right()
    s.reads(w, version=9).is_wrong("buried")


def a_settled_unknown_write_counts_as_acknowledged():
    s = Story()
    w = s.unknown()
    s.settles(w, version=3)
    s.reads(w, version=3).is_right()
    s.reads(None, version=4).is_wrong("finds nothing")


TESTS = [values_are_told_apart, what_was_acknowledged_is_read, a_lost_write_is_seen,
         a_lost_key_is_seen, a_deleted_key_that_comes_back_is_seen,
         a_deleted_key_may_be_written_again, concurrent_writes_may_end_either_way,
         a_read_beside_a_write_may_see_either, an_unknown_write_may_come_late_and_not_twice,
         an_unknown_delete_may_come_late, a_refused_write_is_never_seen, strange_bytes_are_seen,
         a_value_of_another_key_is_seen, versions_never_fall,
         an_acknowledgement_is_above_what_was_there, an_acknowledged_write_is_not_stamped_again,
         what_was_settled_stays_buried, a_settled_unknown_write_counts_as_acknowledged]


def main():
    failed = 0
    print(f"1..{len(TESTS)}")
    for number, test in enumerate(TESTS, 1):
        try:
            test()
            print(f"ok {number} - {test.__name__}")
        except AssertionError:
            failed += 1
            print("".join("# " + line for line in traceback.format_exc().splitlines(True)), end="")
            print(f"not ok {number} - {test.__name__}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
