"""How users name jobs: 12, 12_4, 12_[1-5,7], 12.0, 12.batch, 12_4.batch.

A `JobRef` is what was written, not what exists: 12 may be a job or an array, 12_77 a task that never was.
"""

from sshq.core.arrays import ARRAY_SIZE_MAX, format_indices, parse_array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

JOB_ID_MAX: "Final" = 2**31 - 1
STEP_NAMES: "Final" = ("batch", "extern", "interactive")


class JobRef:
    """A job, some tasks of an array (ascending, each once), or a step of one of these.

    A plain class, as every command that takes job ids reads them into it: dataclasses cost 10 ms.
    """

    __slots__ = ("job_id", "step", "tasks")

    def __init__(self, *, job_id: int, tasks: tuple[int, ...] | None = None, step: str | None = None) -> None:
        self.job_id = job_id
        self.tasks = tasks  # None: the job, or all of the array
        self.step = step  # a number from 0 up, or one of STEP_NAMES

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobRef) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"JobRef({format_job_id(self)})"

    def _key(self) -> tuple[int, tuple[int, ...] | None, str | None]:
        return self.job_id, self.tasks, self.step


def parse_job_id(text: str) -> JobRef:
    """Return what one job id names.

    12_[3-4%2], as squeue prints a pending array, and 12_*, as it prints a dependency, may be pasted: the
    limit is dropped, the star means the whole array.

    Raises:
        ValueError: squeue's text, "Invalid job id: 12x".  Refused are 0, signs, heterogeneous jobs (12+1),
            step names Slurm does not have, and cut texts (12_[1,...]).

    """
    word = text.strip()
    name, dot, step = word.partition(".")
    job_text, underscore, tasks_text = name.partition("_")
    if not _are_digits(job_text) or not 0 < int(job_text) <= JOB_ID_MAX:
        raise ValueError(f"Invalid job id: {text}")
    if dot and not (_are_digits(step) or step in STEP_NAMES):
        raise ValueError(f"Invalid job id: {text}")
    tasks = _parse_tasks(tasks_text, text) if underscore else None
    return JobRef(
        job_id=int(job_text),
        tasks=tasks,
        step=(str(int(step)) if _are_digits(step) else step) if dot else None,
    )


def parse_job_ids(text: str) -> tuple[JobRef, ...]:
    """Return every job of a list with commas, in its order; empty items fall out.

    Raises:
        ValueError: as `parse_job_id`, for the first bad item, or for a list of nothing.

    """
    refs = tuple(parse_job_id(item) for item in split_job_list(text) if item.strip())
    if not refs:
        raise ValueError(f"Invalid job id: {text}")
    return refs


def split_job_list(text: str) -> list[str]:
    """Return the items of a list with commas, those within brackets left alone."""
    items, start, depth = [], 0, 0
    for index, letter in enumerate(text):
        if letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
        elif letter == "," and depth <= 0:
            items.append(text[start:index])
            start = index + 1
    items.append(text[start:])
    return items


def format_job_id(ref: JobRef) -> str:
    """Return the text of a reference: 12, 12_4, 12_[1-5,7], 12_4.batch."""
    text = str(ref.job_id)
    if ref.tasks is not None:
        text += f"_{ref.tasks[0]}" if len(ref.tasks) == 1 else f"_[{format_indices(ref.tasks)}]"
    return text if ref.step is None else f"{text}.{ref.step}"


def _parse_tasks(tasks_text: str, text: str) -> tuple[int, ...] | None:
    if tasks_text == "*":
        return None
    if _are_digits(tasks_text) and int(tasks_text) < ARRAY_SIZE_MAX:
        return (int(tasks_text),)
    if not (tasks_text.startswith("[") and tasks_text.endswith("]")):
        raise ValueError(f"Invalid job id: {text}")
    try:
        return tuple(parse_array(tasks_text[1:-1]).expand())
    except ValueError:
        raise ValueError(f"Invalid job id: {text}") from None


def _are_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12
