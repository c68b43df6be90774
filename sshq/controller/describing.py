"""What a launch tells of its job beside the request on its node, so that a lost store can be rebuilt from the spools.

One line of ASCII JSON, in the store's own text of records: fields that equal their defaults are left out, so it is a few
hundred bytes a launch.  What stands elsewhere in the job directory (number, attempt, script) or must not lie there for
long (the environment) is not in it, nor is the dependency: it was met.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sshq.core.model import Job, JobSpec, Launch
from sshq.core.replacing import replace
from sshq.errors import StoreError
from sshq.store.batch import JOBS, SPECS
from sshq.store.records import Codec, format_json, seal, unseal

VERSION: Final = 1
# What is not of the job as it was before this launch: left out, they read as their defaults.
_OF_THE_LAUNCH: Final = (
    "state", "reason", "launch_id", "released", "start_at", "note", "last_refused_by", "cancel_uid", "lost_node", "verdict",
    "part_launches", "restored_epoch",
)  # fmt: skip
_BARE_JOBS: Final = Codec(Job, leave_out=("spec", *_OF_THE_LAUNCH))


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A job as it was when the launch was sent: pending, without script and environment."""

    job: Job
    boot: str
    decided_at: float


def describe_launch(launch: Launch, job: Job) -> str:
    """Return the line."""
    head = format_json({"about": VERSION, "at": launch.decided_at, "boot": launch.boot})
    line = f'{head[:-1]},"job":{_BARE_JOBS.write(job)},"spec":{_describe_spec(job.spec)}}}'
    return seal(line.replace("\x7f", "\\u007f"))  # the one control character that JSON leaves as it is


@lru_cache(maxsize=64)
def _describe_spec(spec: JobSpec) -> str:
    return SPECS.write(replace(spec, script="", environ="", dependency=None, submit_line="", origin=None))


def parse_description(line: str) -> Description | None:
    """Return what `describe_launch` wrote; None for what is not of this kind: another release's, damaged, or edited."""
    try:
        about = json.loads(unseal(line))
        if not isinstance(about, dict) or about.get("about") != VERSION:
            return None
        spec: JobSpec = SPECS.decode(seal(json.dumps(about["spec"])))
        job: Job = JOBS.decode(seal(json.dumps(about["job"])), spec=spec)
        at, boot = about["at"], about["boot"]
    except (ValueError, KeyError, RecursionError, StoreError):
        return None
    if not isinstance(at, int | float) or not isinstance(boot, str):
        return None
    return Description(job=job, boot=boot, decided_at=float(at))
