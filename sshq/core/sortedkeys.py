"""A sorted sequence in buckets: putting in, taking out and looking at the n-th cost the same at a thousand as at a million.

A plain list would move half of itself for each job that starts or is cancelled.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator

BUCKET_MAX = 1024

Key = tuple[int, int, int]


class SortedKeys:
    """Distinct keys in ascending order."""

    __slots__ = ("_buckets", "_count", "_lasts")

    def __init__(self) -> None:
        self._buckets: list[list[Key]] = []
        self._lasts: list[Key] = []  # the largest of each bucket
        self._count = 0

    def add(self, key: Key) -> None:
        self._count += 1
        if not self._buckets:
            self._buckets.append([key])
            self._lasts.append(key)
            return
        at = min(bisect_left(self._lasts, key), len(self._buckets) - 1)
        bucket = self._buckets[at]
        insort(bucket, key)
        self._lasts[at] = bucket[-1]
        if len(bucket) > BUCKET_MAX:
            half = bucket[len(bucket) // 2 :]
            del bucket[len(bucket) // 2 :]
            self._buckets.insert(at + 1, half)
            self._lasts[at] = bucket[-1]
            self._lasts.insert(at + 1, half[-1])

    def add_many(self, keys: Iterable[Key]) -> None:
        """Add keys that are not there."""
        found = sorted([*self, *keys])
        self._buckets = [found[at : at + BUCKET_MAX // 2] for at in range(0, len(found), BUCKET_MAX // 2)]
        self._lasts = [bucket[-1] for bucket in self._buckets]
        self._count = len(found)

    def remove(self, key: Key) -> None:
        """Take out a key that is there."""
        at = bisect_left(self._lasts, key)
        bucket = self._buckets[at]
        del bucket[bisect_left(bucket, key)]
        self._count -= 1
        if bucket:
            self._lasts[at] = bucket[-1]
        else:
            del self._buckets[at], self._lasts[at]

    def first(self) -> Key:
        return self._buckets[0][0]

    def after(self, key: Key) -> Key | None:
        """Return the next one behind `key`, which need not be there; None at the end."""
        at = bisect_right(self._lasts, key)
        if at == len(self._buckets):
            return None
        bucket = self._buckets[at]
        return bucket[bisect_right(bucket, key)]

    def __iter__(self) -> Iterator[Key]:
        for bucket in self._buckets:
            yield from bucket

    def __len__(self) -> int:
        return self._count
