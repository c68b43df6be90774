"""One line about a step, as `steps.sh` tells it."""

from collections.abc import Callable
from typing import TypeVar

from sshq.runner.replies import StepEntry
from sshq.runner.words import BadLineError, cpu_s_of, id_of, int_of, real_of

T = TypeVar("T")
TEXT_MAX = 1024  # of a name or a line: what a job wrote, and is shown to others


def read_step(text: str) -> StepEntry:
    """Return the step of a line without its marker and tag.  Raises BadLineError."""
    facts, _, texts = text.partition("\t")
    words = facts.strip().split(" ")
    given = texts.split("\t")
    if len(words) != 16 or len(given) != 3 or words[2] not in ("run", "done", "dead"):
        raise BadLineError("not a step")
    node_list, name, line = (printable(one) for one in given)
    launch_id, number, state, code, held, tasks, nodes, cpus, began, ended, user, system, ticks, rss, base, uptime = words
    hundredths = _maybe(int_of, ticks)
    return StepEntry(
        launch_id=id_of(launch_id), number=int_of(number), state=state, code=_maybe(int_of, code), held_cpus=int_of(held),
        tasks=_maybe(int_of, tasks), nodes=_maybe(int_of, nodes), cpus=_maybe(int_of, cpus),
        began_uptime_s=_maybe(real_of, began), ended_uptime_s=_maybe(real_of, ended), user_s=cpu_s_of(user),
        system_s=cpu_s_of(system), sampled_cpu_s=None if hundredths is None else hundredths / 100,
        sampled_rss_kib=_maybe(int_of, rss), start_uptime_s=_maybe(real_of, base), uptime_s=real_of(uptime),
        node_list=node_list, name=name, line=line,
    )  # fmt: skip


def _maybe(read: Callable[[str], T], word: str) -> T | None:
    return None if word == "-" else read(word)


def printable(text: str) -> str:
    """Return what of a job's own words may be stored and shown: no bytes that are no UTF-8, no control characters."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text[:TEXT_MAX])
