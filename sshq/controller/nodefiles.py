"""Asking a node about the files of a job's directory, on a channel of its own: lists, sizes, checksums, bytes.

The questions are those of `runner.stageout`; several may be on their way at once, so that a line with a long delay costs
one delay a batch, not one a file.  Every trouble is a NodeError: the caller tries again, or tells.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from sshq.controller.hosts import HostLink
from sshq.errors import NodeError
from sshq.runner import stageout as so
from sshq.transport.base import Channel

T = TypeVar("T")
ANSWER_S = 60.0
SUM_BYTES_A_S = 20e6  # a node that reads slower than that is taken as one that does not answer
BATCH = 100
BLOCK = 256 * 1024


class FileGoneError(NodeError):
    """The directory, or the file, is not on the node (any more)."""


class FileChangedError(NodeError):
    """The file is not what the node said of it a moment before."""


class MalformedAnswerError(NodeError):
    """What the node said is no answer to what it was asked."""


class NodeFiles:
    """One job's directory on one node.  Use as a context manager; `private`: it is one that the runner made."""

    def __init__(self, link: HostLink, root: str, *, private: bool) -> None:
        self._link, self._root, self._private = link, root, private
        self._channel: Channel | None = None
        self._rest = b""

    async def __aenter__(self) -> Self:
        self._channel, _ = await self._link.open_reader()
        self._channel.write(so.stage_program())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._channel is not None:
            self._channel.close()

    async def match(self, patterns: Sequence[str]) -> list[so.Entry]:
        """Return what the patterns match, by name; one that several match stands there as often."""
        nonce = secrets.token_hex(8)
        self._write(so.encode_list(nonce=nonce, root=self._root, private=self._private, patterns=patterns))
        body, count = await self._answer(nonce, ANSWER_S)
        return sorted(self._parse(lambda: so.parse_list(body, count)), key=lambda entry: (entry.name, entry.pattern))

    async def sizes(self, names: Sequence[bytes]) -> list[so.Size | None]:
        found: list[so.Size | None] = []
        for batch in _batches(names):
            nonce = secrets.token_hex(8)
            self._write(so.encode_sizes(nonce=nonce, root=self._root, private=self._private, names=batch))
            body, _ = await self._answer(nonce, ANSWER_S)
            found += self._parse(partial(so.parse_sizes, body, len(batch)))
        return found

    async def sums(self, names: Sequence[bytes], size: int) -> list[str | None]:
        """Return their checksums; they have `size` bytes together, which the node reads."""
        found: list[str | None] = []
        for batch in _batches(names):
            nonce = secrets.token_hex(8)
            self._write(so.encode_sums(nonce=nonce, root=self._root, private=self._private, names=batch))
            body, _ = await self._answer(nonce, ANSWER_S + size / SUM_BYTES_A_S)
            found += self._parse(partial(so.parse_sums, body, len(batch)))
        return found

    async def sum_of(self, name: bytes, size: int) -> str | None:
        """Return the checksum of the first `size` bytes of a file that may be growing."""
        nonce = secrets.token_hex(8)
        self._write(so.encode_sum(nonce=nonce, root=self._root, private=self._private, name=name, size=size))
        body, _ = await self._answer(nonce, ANSWER_S + size / SUM_BYTES_A_S)
        return self._parse(partial(so.parse_sums, body, 1))[0]

    def ask(self, name: bytes, offset: int, size: int | None = None) -> str:
        """Ask for a file's bytes from `offset` on, of its first `size`; returns what `read` is given, in the order of asking."""
        nonce = secrets.token_hex(8)
        self._write(
            so.encode_read(nonce=nonce, root=self._root, private=self._private, name=name, offset=offset, size=size)
        )  # fmt: skip
        return nonce

    async def read(self, nonce: str, expected: int) -> AsyncIterator[list[bytes]]:
        """Yield the bytes that were asked for, `expected` of them, in the pieces in which they come.

        Raises:
            FileGoneError: it is not there.
            FileChangedError: it has more or fewer.
        """
        begin, end = so.begin_of(nonce), so.end_of_data(nonce)
        gone = begin + so.gone_line(nonce)
        data = await self._until(lambda data: begin + b"data\n" in data or gone in data)
        if gone in data:
            self._rest = data[data.index(gone) + len(gone) :]
            raise FileGoneError(f"{self._link.name}: the file is not there", host=self._link.name)
        data = data[data.index(begin) + len(begin) + len(b"data\n") :]
        left = expected
        pieces, data = [data[:left]], data[left:]
        while left:
            yield pieces
            left -= sum(map(len, pieces))
            pieces = await self._more_pieces(ANSWER_S, min(left, BLOCK)) if left else []
        while len(data) < len(end):
            data += await self._more(ANSWER_S)
        if not data.startswith(end):
            raise FileChangedError(f"{self._link.name}: the file has changed while it was read", host=self._link.name)
        self._rest = data[len(end) :]

    def _write(self, question: bytes) -> None:
        if self._channel is None:
            raise RuntimeError("not open")
        self._channel.write(question)

    async def _more(self, deadline_s: float) -> bytes:
        return b"".join(await self._more_pieces(deadline_s, BLOCK))

    async def _more_pieces(self, deadline_s: float, max_bytes: int) -> list[bytes]:
        if self._channel is None:
            raise RuntimeError("not open")
        pieces = await self._channel.read_pieces(max_bytes, deadline_s)
        if not pieces:
            raise NodeError(f"{self._link.name}: the connection was cut while files were read", host=self._link.name)
        return pieces

    async def _until(self, enough: Callable[[bytes], bool]) -> bytes:
        data, self._rest = self._rest, b""
        while not enough(data):
            if len(data) > so.NOISE_MAX:
                raise MalformedAnswerError(f"{self._link.name}: what it said is no answer", host=self._link.name)
            data += await self._more(ANSWER_S)
        return data

    async def _answer(self, nonce: str, deadline_s: float) -> tuple[bytes, int]:
        reader = so.AnswerReader(nonce)
        data, self._rest = self._rest, b""
        while (body := self._parse(partial(reader.feed, data))) is None:
            data = await self._more(deadline_s)
        self._rest = reader.left
        return body, reader.count

    def _parse(self, parse: Callable[[], T]) -> T:
        try:
            return parse()
        except so.GoneError as error:
            raise FileGoneError(f"{self._link.name}: {error}", host=self._link.name) from None
        except so.StageError as error:
            raise MalformedAnswerError(f"{self._link.name}: {error}", host=self._link.name) from None


def _batches(names: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]
