"""Many submissions taken together or not at all: sent in parts, of which the next is made while the last is read over there.

Nothing of a batch is stored before its last part, and then all of it at once.  It has one token, so that sending it again
after a lost connection makes no job twice.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sshq.api.origin import is_about_origin, leave_out_origin
from sshq.api.patience import submit_patiently
from sshq.api.proof import Proof, describe_directory, prove
from sshq.errors import RefusedError
from sshq.slurm.many import Prepared, describe_part
from sshq.wire.client import Client as Wire

JOBS_MAX = 10_000  # of one batch
Object = dict[str, Any]


class RefusedBatchError(RefusedError):
    """None of a batch was taken.

    Attributes:
        refusals: by place in the batch, from 0: who is to blame, the first hundred of them.
        count: how many there are.

    """

    def __init__(self, refusals: dict[int, RefusedError], count: int) -> None:
        number, first = next(iter(refusals.items()))
        super().__init__(first.message, code=first.code, detail=(f"submission {number}", *first.detail), hint=first.hint)
        self.refusals, self.count = refusals, count


class Taken:
    """A batch that was taken: the number of its first job, whose successors the others are, how many, what is said of them."""

    def __init__(self, first: int, count: int, notes: list[str]) -> None:
        self.first, self.count, self.notes = first, count, notes

    @property
    def job_ids(self) -> range:
        return range(self.first, self.first + self.count)


def submit_batch(connect: Callable[[], Wire], parts: Iterable[list[Prepared]]) -> Taken:
    """Submit the jobs of all parts, in their order.

    Raises:
        RefusedBatchError: some were refused, so none was taken.
        OptionError: of `parts`, while it is read; none was taken.

    """
    sender = _Sender(parts)

    def send(wire: Wire, _first: bool) -> Taken:
        try:
            return sender.send_all(wire)
        except RefusedError as error:
            if not is_about_origin(error) or sender.brief:
                raise
            sender.brief = True
            return sender.send_all(wire)

    return submit_patiently(connect, send)


def with_files(
    read: Iterable[Prepared], connect: Callable[[], Wire], environ: Mapping[str, str]
) -> Iterator[Prepared]:
    """Have files that go along where the controller finds them; submissions that ask for the same have one snapshot."""
    made: dict[object, Object] = {}
    for one in read:
        base = one.base
        if (base.sync is not None or base.stage_in) and "tree" not in base.description:
            from sshq.api.staging import stage_files

            key = (base.sync, tuple(base.stage_in), base.description["work_dir"])
            if key not in made:
                stage_files(base, connect, environ)
                made[key] = {name: base.description[name] for name in ("tree", "tree_below", "frozen")}
            base.description |= made[key]
        yield one


class _Sender:
    def __init__(self, parts: Iterable[list[Prepared]]) -> None:
        self._parts = iter(parts)
        self._read: list[list[Prepared]] = []  # what has been sent once
        self._token = os.urandom(16).hex()
        self._directories: dict[str, Proof | None] = {}
        self.brief = False  # the controller is older than this client and does not know what is told of our origin

    def send_all(self, wire: Wire) -> Taken:
        """Send what has not been sent over this connection, and return what became of it."""
        at = 0
        answer: Callable[[], Object] | None = None
        for part, last in _mark_last(self._all_parts()):
            params = self._describe(part, at, last=last)
            if answer is not None:
                reply = _read_answer(answer())
                if reply is not None:  # this batch was taken before we lost the connection
                    return self._taken(reply)
            answer = self._ask(wire, params)
            at += len(part)
        reply = _read_answer(answer()) if answer is not None else None
        if reply is None:
            raise RefusedError("there is nothing to submit", code="bad_request")
        return self._taken(reply)

    def _taken(self, reply: Object) -> Taken:
        notes = reply.get("notes")
        count = sum(len(part) for part in (*self._read, *self._parts))
        return Taken(int(reply["first_job_id"]), count, [str(note) for note in notes] if isinstance(notes, list) else [])

    def _all_parts(self) -> Iterator[list[Prepared]]:
        yield from self._read.copy()
        for part in self._parts:
            self._read.append(part)
            yield part

    def _describe(self, part: list[Prepared], at: int, *, last: bool) -> Object:
        base = part[0].base
        work_dir = str(base.description["work_dir"])
        if work_dir not in self._directories:
            outputs = (base.description.get("std_out"), base.description.get("std_err"))
            self._directories[work_dir] = describe_directory(work_dir, outputs)
        params: Object = {
            **describe_part(part), "environ": base.environ, "token": self._token, "at": at, "more": not last,
            "directory": self._directories[work_dir],
        }  # fmt: skip
        return leave_out_origin(params) if self.brief else params

    def _ask(self, wire: Wire, params: Object) -> Callable[[], Object]:
        """Send a part and return what waits for its answer; where the directory has to be proved, give the proof."""
        wait = wire.call_ahead("submit_many", params)

        def answer() -> Object:
            reply = wait()
            return prove(wire, params, method="submit_many") if reply.get("need_nonce") else reply

        return answer


def _mark_last(parts: Iterator[list[Prepared]]) -> Iterator[tuple[list[Prepared], bool]]:
    held: list[Prepared] | None = None
    for part in parts:
        if held is not None:
            yield held, False
        held = part
    if held is not None:
        yield held, True


def _read_answer(reply: Object) -> Object | None:
    """Return the answer if it is the last one, None while there is more to send."""
    refused = reply.get("refused")
    if isinstance(refused, list) and refused:
        refusals = {
            int(one["number"]): RefusedError(
                str(one["error"]), code=str(one["code"]), detail=tuple(map(str, one.get("detail") or ())),
                hint=str(one["hint"]) if one.get("hint") else None,
            )
            for one in refused
        }  # fmt: skip
        raise RefusedBatchError(refusals, int(reply.get("refused_count") or len(refusals)))
    return reply if isinstance(reply.get("first_job_id"), int) else None
