"""What `sshq show --provenance` prints: where a job came from, and where it ran."""

import time
from collections.abc import Mapping, Sequence

from sshq.cli.asking import read_items, read_number, read_text

View = Mapping[str, object]
LAUNCHES_SHOWN = 20
_STATES = {
    "clean": "tracked files as committed",
    "changed": "tracked files changed since",
    "unknown": "whether files were changed is not known",
}  # fmt: skip


def describe_provenance(label: str, told: View) -> list[str]:
    """Return the lines of the page."""
    job, origin = _object(told.get("job")), _object(told.get("origin"))
    version = read_text(origin, "version")
    by = f"{read_text(job, 'user')} (uid {job.get('uid')}) on {read_text(job, 'submit_host') or 'an unknown host'}"
    rows = [
        ("command", read_text(job, "submit_line")),
        ("by", by + (f", sshq {version}" if version else "")),
        ("from", read_text(told, "submit_dir")),
        ("inside job", read_text(origin, "job")),
        ("reproduces", f"job {read_text(origin, 'again')}" if read_text(origin, "again") else ""),
        ("script", describe_script(told)),
        *_describe_git(origin),
        ("files", describe_tree(told)),
        ("environment", describe_environ(told)),
    ]
    lines = [f"Job {label} ({read_text(job, 'name')}), {read_text(job, 'state')}"]
    lines += [f"    {name:<12} {text}" for name, text in rows if text]
    return lines + _describe_launches(told)


def _object(value: object) -> View:
    return value if isinstance(value, dict) else {}


def _describe_git(origin: View) -> list[tuple[str, str]]:
    if not read_text(origin, "top"):
        return []
    branch, commit, problem = (read_text(origin, key) for key in ("branch", "commit", "problem"))
    state = _STATES.get(read_text(origin, "state"), "")
    files = read_text(origin, "files")
    about = "; ".join(part for part in (state, problem) if part)
    where = f"{commit or 'no commit'}{' on ' + branch if branch else ' (no branch)' if commit else ''}"
    return [
        ("work tree", read_text(origin, "top")),
        ("commit", where + (f": {about}" if about else "")),
        ("tracked", f"sha256 {files} of all tracked files" if files else ""),
    ]


def describe_script(told: View) -> str:
    """Say which script it was, and whether it is kept."""
    script = _object(told.get("script"))
    size = read_number(script, "bytes")
    kept = "no longer kept" if size is None else f"{int(size)} bytes, kept"
    return f"sha256 {read_text(script, 'digest')}, {kept}"


def describe_tree(told: View) -> str:
    """Say which files went along, and whether they are kept; "" for none."""
    tree = _object(told.get("tree"))
    if not tree:
        return ""
    kept = "kept" if tree.get("missing") is None else "no longer kept"
    how = "a frozen tree" if tree.get("frozen") else "files that went along"
    return f"{how}, sha256 {read_text(tree, 'digest')}, {format_bytes(read_number(tree, 'bytes') or 0)}, {kept}"


def describe_environ(told: View) -> str:
    """Say which environment it was."""
    environ = _object(told.get("environ"))
    names = environ.get("names")
    count = "" if not isinstance(names, list) else f"{len(names)} variables, "
    kept = "kept" if environ.get("kept") else "values no longer kept"
    return f"{count}sha256 {read_text(environ, 'digest')}, {kept}"


def _describe_launches(told: View) -> list[str]:
    launches = read_items(told.get("launches"))
    if not launches:
        return ["    It has not been launched."]
    lines = []
    for one in launches[-LAUNCHES_SHOWN:]:
        task = one.get("array_task_id")
        number = f"{one.get('array_job_id')}_{task}" if task is not None else str(one.get("job_id"))
        at = read_number(one, "started_at") or read_number(one, "decided_at")
        when = "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
        facts = read_text(one, "facts")
        about = [f"boot {read_text(one, 'boot')}"] + ([f"host facts {facts[:12]}"] if facts else [])
        about += [f"image {read_text(one, 'image')[:12]}"] if one.get("image") else []
        who = f"{number} attempt {one.get('attempt')} on {read_text(one, 'node')}"
        lines.append(f"    launched     {who}, {when}, {', '.join(about)}")
    if len(launches) > LAUNCHES_SHOWN:
        lines.append(f"    ({len(launches) - LAUNCHES_SHOWN} earlier launches are in --json)")
    known = _object(told.get("facts"))
    shown = dict.fromkeys(read_text(one, "facts") for one in launches[-LAUNCHES_SHOWN:])
    for digest in filter(None, shown):
        lines += describe_facts(digest, known.get(digest))
    return lines


def describe_facts(digest: str, facts: object) -> list[str]:
    """Return the lines of what a host was."""
    if not isinstance(facts, dict):
        return [f"    host facts {digest[:12]}: no longer kept"]
    rows = [(str(key).replace("_", " "), format_value(value)) for key, value in facts.items()]
    return [f"    host facts {digest[:12]}", *(f"        {name:<12} {text}" for name, text in rows if text)]


def format_value(value: object) -> str:
    """Return a fact as text."""
    if isinstance(value, list):
        return ", ".join(format_value(one) for one in value)
    if isinstance(value, dict):
        return " ".join(format_value(one) for one in value.values())
    return "" if value is None else str(value)


def format_bytes(size: float) -> str:
    """Return a size as people say it."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def names_line(names: Sequence[str], at_most: int = 12) -> str:
    """Return names of variables on one line, not endless."""
    shown = " ".join(names[:at_most])
    return shown if len(names) <= at_most else f"{shown} and {len(names) - at_most} more"
