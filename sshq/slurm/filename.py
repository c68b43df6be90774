"""Names of a job's files: %j, %A, %a, %x, %N, %n, %s, %t, %u, %J, %%, with a width as in %4a.

Seen on Slurm 22.05: an unknown letter stays with its percent sign; %a in a plain job is 4294967294; a backslash
anywhere turns replacing off, and goes itself.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


NO_TASK = 4294967294  # Slurm's NO_VAL, which %a shows in a job that is no array
WIDTH_MAX = 10  # sbatch(1): larger widths count as 10
DEFAULT_OUTPUT = "slurm-%j.out"
DEFAULT_ARRAY_OUTPUT = "slurm-%A_%a.out"


def default_output(*, array: bool) -> str:
    """Return the pattern of a job without --output."""
    return DEFAULT_ARRAY_OUTPUT if array else DEFAULT_OUTPUT


def expand_filename(pattern: str, facts: "Mapping[str, object]") -> str:
    """Return the name a pattern stands for; relative names stay relative to the job's working directory.

    Args:
        pattern: as given to --output, --error or --input.
        facts: job_id, array_job_id, array_task_id, user, name, node; an absent one counts as None.
    """
    if "\\" in pattern:
        return _drop_backslashes(pattern)
    if "%" not in pattern:
        return pattern
    parts = []
    at = 0
    while True:
        percent = pattern.find("%", at)
        if percent < 0 or percent + 1 == len(pattern):
            parts.append(pattern[at:])
            return "".join(parts)
        parts.append(pattern[at:percent])
        end = percent + 1
        while end < len(pattern) and pattern[end].isdecimal():
            end += 1
        letter = pattern[end : end + 1]
        width = min(int(pattern[percent + 1 : end] or 0), WIDTH_MAX)
        value = _replace(letter, facts)
        parts.append(pattern[percent : end + 1] if value is None else _pad(value, width))
        at = end + 1


def _replace(letter: str, facts: "Mapping[str, object]") -> int | str | None:
    if letter in ("j", "J"):
        return _number(facts.get("job_id"), 0)
    if letter == "A":
        return _number(facts.get("array_job_id"), _number(facts.get("job_id"), 0))
    if letter == "a":
        return _number(facts.get("array_task_id"), NO_TASK)
    if letter in ("n", "t"):
        return 0  # the first node, the first task: where the script runs
    if letter == "%":
        return "%"
    if letter == "s":
        return "batch"
    key = {"x": "name", "u": "user", "N": "node"}.get(letter)
    return str(facts.get(key) or "") if key else None


def _number(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def _pad(value: int | str, width: int) -> str:
    return str(value).zfill(width) if isinstance(value, int) else value


def _drop_backslashes(pattern: str) -> str:
    letters = iter(pattern)
    return "".join(next(letters, "") if letter == "\\" else letter for letter in letters)
