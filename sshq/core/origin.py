"""Where a submission came from, as its client told it: the version of sshq, and what git knew of the directory.

One short text of JSON in the spec, with sorted keys, so that equal submissions stay one row of the store.
"""

import json
from collections.abc import Mapping
from typing import Final

# Keys that are kept, with the most characters each may have; a newer client's others are dropped: nothing depends on them.
KEYS: Final[Mapping[str, int]] = {
    "version": 64,  # of sshq
    "top": 4095,  # of the work tree
    "commit": 64,
    "branch": 1024,
    "state": 16,  # of the tracked files, beside the commit: clean, changed, unknown
    "files": 64,  # digest of the tracked files, where all of them were looked at
    "problem": 1024,  # what could not be read, or was not looked at
    "job": 64,  # it was submitted from inside this one
    "again": 64,  # it is this job once more
}


def write_origin(told: Mapping[str, object]) -> str | None:
    """Return the text of what was told; None for nothing."""
    kept = {key: str(told[key])[:length] for key, length in KEYS.items() if told.get(key)}
    return json.dumps(kept, sort_keys=True, separators=(",", ":")) if kept else None


def read_origin(text: str | None) -> dict[str, str]:
    """Return what was told."""
    return dict(json.loads(text)) if text else {}
