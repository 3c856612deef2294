"""MurmurHash3 x64 128 and quoit's token in plain Python.

Written from the description in proto/README.md, apart from the C code, so that agreement of the two
means something.
"""

MASK = (1 << 64) - 1
C1 = 0x87C37B91114253D5
C2 = 0x4CF5AD432745937F


def _rotl(x, r):
    return ((x << r) | (x >> (64 - r))) & MASK


def _fmix(k):
    k ^= k >> 33
    k = k * 0xFF51AFD7ED558CCD & MASK
    k ^= k >> 33
    k = k * 0xC4CEB9FE1A85EC53 & MASK
    return k ^ (k >> 33)


def _mix1(k):
    return _rotl(k * C1 & MASK, 31) * C2 & MASK


def _mix2(k):
    return _rotl(k * C2 & MASK, 33) * C1 & MASK


def x64_128(data, seed):
    """The algorithm's two 64-bit words as numbers."""
    h1 = h2 = seed
    whole = len(data) // 16 * 16
    for at in range(0, whole, 16):
        h1 ^= _mix1(int.from_bytes(data[at:at + 8], "little"))
        h1 = ((_rotl(h1, 27) + h2) * 5 + 0x52DCE729) & MASK
        h2 ^= _mix2(int.from_bytes(data[at + 8:at + 16], "little"))
        h2 = ((_rotl(h2, 31) + h1) * 5 + 0x38495AB5) & MASK
    tail = data[whole:]
    # The last bytes count as if zeros followed; words of zero change nothing.
    h2 ^= _mix2(int.from_bytes(tail[8:], "little"))
    h1 ^= _mix1(int.from_bytes(tail[:8], "little"))
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = (h1 + h2) & MASK
    h2 = (h2 + h1) & MASK
    h1, h2 = _fmix(h1), _fmix(h2)
    h1 = (h1 + h2) & MASK
    return h1, (h2 + h1) & MASK


def token(seed, secret, bucket, partition_key):
    return x64_128(secret + bucket.to_bytes(4, "big") + partition_key, seed)[0]
