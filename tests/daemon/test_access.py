"""Who may ask what: every request of the socket by its owner, by root, and by another user, who is really another user.

The controller belongs to an ordinary account here.  Each role is a process of that uid, so what decides is the kernel's
word (SO_PEERCRED) and the socket file's mode.  A request without a row fails the test.
"""

import codecs
import contextlib
import ctypes
import encodings
import importlib
import json
import os
import pkgutil
import re
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
import traceback
from pathlib import Path

import pytest

import sshq
from bed.session import wait_until
from sshq.wire.codec import decode_json, frame_json
from sshq.wire.protocol import METHODS

from .hostile_frames import DESCRIPTION

OWNER, STRANGER, ROOT = 61_234, 61_235, 0
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="optional: only root can be somebody else")

# What each request carries, and what the owner and root get: "ok" or the code of a refusal that is not "denied".
# Listing is what others may do where others_may_list is on; script, output, log and everything that changes is not.
LISTING, OWN = "listing", "own"
REF, REFS = {"ref": [1, None]}, {"refs": [[1, None]]}
ROWS: dict[str, tuple[str, dict[str, object], str]] = {
    "ping": (LISTING, {}, "ok"),
    "jobs": (LISTING, {"filter": {}, "finished": True}, "ok"),
    "info": (LISTING, {}, "ok"),
    "status": (LISTING, {}, "ok"),
    "hosts": (LISTING, {}, "ok"),
    "steps": (LISTING, {"filter": {}}, "ok"),
    "history": (LISTING, {"filter": {}}, "ok"),
    "why": (LISTING, REF, "ok"),
    "wait": (LISTING, {"ids": [999]}, "ok"),
    "events": (LISTING, {"filter": {}, "count": 0}, "ok"),
    "stats": (LISTING, {}, "ok"),
    "submit": (OWN, {"description": DESCRIPTION, "environ": {}}, "ok"),
    "submit_many": (OWN, {"descriptions": [DESCRIPTION], "environ": {}, "token": "0123456789abcdef"}, "ok"),
    "cancel": (OWN, {"filter": {"names": ["nosuch"]}}, "ok"),
    "update_job": (OWN, REFS | {"changes": {"nice": 1}}, "ok"),
    "hold": (OWN, REFS, "ok"),
    "release": (OWN, REFS, "ok"),
    "requeue": (OWN, REFS, "ok"),
    "suspend": (OWN, REFS, "ok"),
    "resume": (OWN, REFS, "ok"),
    "top": (OWN, REFS, "ok"),
    "update_node": (OWN, {"names": ["h"], "state": "drain", "reason": "r"}, "ok"),
    "update_partition": (OWN, {"names": ["all"], "state": "UP"}, "ok"),
    "reservation": (OWN, {"verb": "delete", "name": "none"}, "bad_request"),
    "logs": (OWN, REF | {"stream": "out", "follow": False, "offset": 0}, "ok"),
    "script": (OWN, REF, "ok"),
    "provenance": (OWN, REF | {"environ": {}, "again": True}, "ok"),
    "job_files": (OWN, REF | {"path": "x"}, "not_now"),
    "job_file": (OWN, REF | {"name": "x", "size": 0, "offset": 0}, "not_now"),
    "cancel_steps": (OWN, {"steps": [[999, None, 0]], "signal": 15}, "ok"),
    "hosts_retry": (OWN, {"names": []}, "ok"),
    "hosts_accept": (OWN, {"names": ["h"]}, "ok"),
    "hosts_remove": (OWN, {"name": "nosuch"}, "bad_request"),
    "reload": (OWN, {}, "ok"),
    "doctor": (OWN, {"names": []}, "ok"),
    "shared": (OWN, {"path": "/"}, "ok"),
    "purge": (OWN, {"refs": [[999, None]]}, "ok"),
    "controller_log": (OWN, {"lines": 1}, "ok"),
    "follow_job": (OWN, {"ref": [999, None]}, "unknown_job"),
    "part_start": (OWN, REF | {"token": "t", "argv": ["true"]}, "not_now"),
    "part_output": (OWN, REF | {"token": "t", "stream": "out", "offset": 0}, "not_now"),
    "part_input": (OWN, REF | {"token": "t", "number": 0, "data": ""}, "not_now"),
    "part_signal": (OWN, REF | {"token": "t", "signal": 2}, "not_now"),
    "finish": (OWN, REF | {"code": 0}, "not_now"),
    "attach": (OWN, REF | {"token": "t", "argv": ["true"], "rows": 1, "columns": 1}, "not_now"),
    "attach_input": (OWN, {"token": "t", "data": "!"}, "bad_request"),
    "down": (OWN, {}, "ok"),  # last, and by the owner alone
}


def test_every_request_has_a_row():
    assert ROWS.keys() == METHODS.keys()


def become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def run_as(uid: int, work) -> object:
    """What `work` returns, as JSON, done in a child of another uid; all modules are there already."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            become(uid)
            try:
                result = work()
            except OSError as error:
                result = f"{type(error).__name__}"
            with os.fdopen(writing, "w") as out:
                json.dump(result, out)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)


def outcome(path: str, method: str, params: dict[str, object]) -> str:
    """"ok", or the code of the refusal; asked at the socket itself, as a hostile client would."""
    reply = answer(path, method, params)[-1]
    return "ok" if reply["ok"] else reply["error"]["code"]


def answer(path: str, method: str, params: dict[str, object]) -> list[dict[str, object]]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.settimeout(60)
        with contextlib.suppress(BrokenPipeError):  # who is one too many is told so unasked
            connection.sendall(frame_json({"v": 1, "id": 1, "method": method, "params": params}))
        messages = []
        with connection.makefile("rb") as stream:
            while not messages or "ok" not in messages[-1]:
                length, kind = struct.unpack(">IB", stream.read(5))
                body = stream.read(length)
                if kind == ord("J"):
                    messages.append(decode_json(body))
        return messages


class OwnController:
    """A controller of OWNER's, in a child that became OWNER."""

    def __init__(self, home: Path, *, others_may_list: bool) -> None:
        home.mkdir(mode=0o755)
        os.chown(home, OWNER, OWNER)
        (home / "config.yaml").write_text(f"others_may_list: {str(others_may_list).lower()}\n")
        (home / "inventory.yaml").write_text("all: {hosts: {h: {ansible_host: 127.0.0.1, ansible_port: 1, ansible_user: nobody, sshq_slots: 1}}}\n")
        self.path = str(home / "sock")
        for module in pkgutil.walk_packages(sshq.__path__, "sshq."):  # the tree may be unreadable for others
            if not module.name.startswith("sshq.cli"):
                importlib.import_module(module.name)
        for encoding in pkgutil.iter_modules(encodings.__path__):
            with contextlib.suppress(LookupError, ImportError):
                codecs.lookup(encoding.name)
        self.pid = os.fork()
        if self.pid == 0:
            self._serve(home)

    def _serve(self, home: Path) -> None:
        try:
            become(OWNER)
            os.environ["HOME"] = str(home)
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # not to outlive the test
            from sshq.controller.start import main

            log = os.open(home / "out", os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            words = {"--state": "state", "--socket": "sock", "--home": "", "--config": "config.yaml", "--inventory": "inventory.yaml"}
            os._exit(main([word for key, name in words.items() for word in (key, str(home / name))]))
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(99)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
            os.waitpid(self.pid, 0)


@pytest.fixture(params=[False, True], ids=["private", "others_may_list"])
def owned(request, tmp_path_factory):
    place = Path(f"/tmp/sshq-access-{os.getpid()}-{int(request.param)}")  # where another uid may go
    controller = OwnController(place, others_may_list=request.param)
    try:
        wait_until(lambda: os.path.exists(controller.path), 30, "the controller listens")
        controller.open = request.param
        yield controller
    finally:
        controller.close()
        subprocess.run(["rm", "-rf", str(place)], check=True)


def test_each_role_may_what_its_row_says(owned):
    assert run_as(OWNER, lambda: outcome(owned.path, "submit", ROWS["submit"][1])) == "ok"
    wrong = []
    for role, uid in (("owner", OWNER), ("root", ROOT), ("other", STRANGER)):
        rows = [(m, r) for m, r in ROWS.items() if m != "down" or role == "other"]
        got = run_as(uid, lambda rows=rows: [outcome_or_error(owned.path, m, params) for m, (_, params, _) in rows])
        for (method, (kind, _, mine)), result in zip(rows, got, strict=True):
            theirs = "PermissionError" if not owned.open else mine if kind == LISTING else "denied"
            expected = theirs if role == "other" else mine
            if result != expected:
                wrong.append((role, method, result, expected))
    assert not wrong
    assert run_as(OWNER, lambda: outcome(owned.path, "down", {})) == "ok"
    os.waitpid(owned.pid, 0)
    owned.pid = 0


def outcome_or_error(path, method, params) -> str:
    try:
        return outcome(path, method, params)
    except OSError as error:
        return type(error).__name__


def test_a_stranger_has_few_connections_and_small_frames(owned):
    if not owned.open:
        assert run_as(STRANGER, lambda: outcome_or_error(owned.path, "ping", {})) == "PermissionError"
        return

    def crowd() -> list[str]:
        held = []
        for _ in range(16):
            held.append(socket.socket(socket.AF_UNIX))
            held[-1].connect(owned.path)
        late = outcome_or_refusal(owned.path)
        for connection in held:
            connection.close()
        return [late, as_soon_as_there_is_room(owned.path, {}), as_soon_as_there_is_room(owned.path, {"x": "y" * 70_000})]

    assert run_as(STRANGER, crowd) == ["crowded", "ok", "too_large"]
    assert run_as(OWNER, lambda: outcome(owned.path, "ping", {})) == "ok"


def as_soon_as_there_is_room(path, params) -> str:
    deadline = time.monotonic() + 30
    while (got := outcome_or_refusal(path, params)) == "crowded" and time.monotonic() < deadline:
        pass
    return got


def outcome_or_refusal(path, params=None) -> str:
    try:
        return outcome(path, "ping", params or {})
    except OSError as error:
        return type(error).__name__


# ---- what may be read by whom on the disk, and what shows up where it must not ------------------------------------------


SECRET, HIDDEN = "canary-in-the-environment-7d1f", "canary-in-the-script-93ac"


class CommandLines(threading.Thread):
    """All that any process of this machine had in its argument list while it was watched."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over, self.found, self.looks = threading.Event(), set(), 0

    def run(self) -> None:
        while not self.over.is_set():
            self.looks += 1
            for entry in os.listdir("/proc"):
                if entry.isdigit():
                    try:
                        line = Path(f"/proc/{entry}/cmdline").read_bytes()
                    except OSError:
                        continue
                    if SECRET.encode() in line or HIDDEN.encode() in line:
                        self.found.add(line)

    def __enter__(self) -> "CommandLines":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join(30)


def open_to_others(folder: str) -> list[str]:
    """What below a folder any other uid could read, write or enter."""
    found = []
    for here, folders, files in os.walk(folder):
        for path in (here, *(f"{here}/{name}" for name in (*folders, *files))):
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:  # it lives on meanwhile
                continue
            if mode & 0o077 and not stat.S_ISLNK(mode):
                found.append(f"{stat.filemode(mode)} {path}")
    return found


@pytest.mark.slow
def test_secrets_stay_in_files_of_their_own(instance, loopback):
    """The environment and the script reach the job, and nothing else: no command line, no log, no answer to another user."""
    host = loopback.hosts[0]
    instance.use([host], sshq_slots=4, sshq_cpus=4)
    instance.write_config("log_level: debug\nothers_may_list: true\n")
    instance.up()
    instance.ready()
    os.chmod(instance.sshq_home, 0o711)
    spool = f"{host.vars['sshq_spool']}/spool/{Path(instance.sshq_home, 'state/store_id').read_text().strip()}"
    Path(instance.work, "job.sh").write_text(f"#!/bin/sh\n: {HIDDEN}\necho got $TOKEN\n" "until [ -e go ]; do sleep 0.05; done\n")
    with CommandLines() as seen:
        jobs = [instance.run("sbatch", "--parsable", "job.sh", env={"TOKEN": SECRET}, check=True).stdout.strip() for _ in range(3)]
        instance.wait_for(lambda: all(SECRET in instance.run("logs", j).stdout for j in jobs), 60, "each job has its secret")
        grep = ["grep", "-rlf", "-", spool]  # not as a word: its own command line is looked at too
        left = subprocess.run(grep, input=SECRET, capture_output=True, text=True, check=False).stdout
        open_files = open_to_others(f"{instance.sshq_home}/state") + open_to_others(spool)
        told = run_as(STRANGER, lambda: [
            answer(f"{instance.sshq_home}/sock", method, params)
            for method, (kind, params, _) in ROWS.items() if method not in ("wait", "down")
        ])  # fmt: skip
        Path(instance.work, "go").touch()
        for job in jobs:
            instance.until_state(job, "COMPLETED")
    assert seen.looks > 3
    assert not seen.found
    assert not open_files
    assert "denied" in json.dumps(told)
    assert "job.sh" in json.dumps(told)
    logs = [p for p in Path(instance.sshq_home, "state").rglob("*") if p.name.endswith((".log", ".jsonl"))]
    assert len(logs) >= 2
    texts = [json.dumps(told), *(p.read_text(errors="replace") for p in logs)]
    assert not [word for word in (SECRET, HIDDEN) for text in texts if word in text]
    assert left == ""  # once read, the environment is in no file of the node any more


# ---- names that try to steer a terminal or forge a line -----------------------------------------------------------------


STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u202a-\u202e\u2066-\u2069]")
NASTY = "n\x1b[31m\x1b]0;owned\x07\r\x9b2J\u202etxt.exe"


@pytest.mark.slow
def test_names_steer_no_terminal_and_forge_no_line(instance, loopback):
    instance.use(loopback.hosts[:1], sshq_state="down")
    instance.write_config("log_level: debug\n")
    instance.up()
    instance.ready()
    folder = os.path.join(instance.work, f"d{NASTY}\nJobId=99 forged")
    os.mkdir(folder)
    nasty = f"{NASTY}\nJobId=99 forged"
    job = instance.submit("-J", nasty, "--comment", nasty, "-o", f"o{nasty}", "-A", nasty, "--wrap", "true", cwd=folder)
    instance.run("scontrol", "update", f"jobid={job}", f"name={nasty}", check=True)
    instance.run("scontrol", "update", "nodename=l1", "state=drain", f"reason={nasty}", check=True)
    commands = [
        ["squeue"], ["squeue", "-o", "%i|%j|%k|%Z|%a|%o"], ["squeue", "--json"], ["squeue", "-O", "jobid,name,comment:80,workdir:200"],
        ["scontrol", "show", "job", str(job)], ["scontrol", "-o", "show", "job", str(job)], ["scontrol", "show", "node"], ["sinfo", "-R"],
        ["sinfo", "-o", "%E %N"], ["sacct", "-P", "-o", "jobid,jobname,comment,workdir,account"], ["sacct"], ["sacct", "--json"],
        ["why", str(job)], ["hosts"], ["status"], ["logs", "--controller"], ["doctor", nasty], ["scancel", nasty], ["squeue", "-j", nasty],
        ["sbatch", "-p", nasty, "--wrap", "true"], ["sbatch", f"/{nasty}"], ["sbatch", "-d", nasty, "--wrap", "true"], ["scontrol", "show", nasty],
        ["sinfo", "-n", nasty], ["sacct", "-j", nasty], ["scontrol", "update", "nodename=l1", f"state={nasty}"], [nasty], ["squeue", f"--{nasty}"],
    ]  # fmt: skip
    wrong, shown = [], 0
    for words in commands:
        own_words = any(NASTY in word for word in words)  # are shown again as they were given, in so many lines
        done = instance.run(*words)
        for text in (done.stdout, done.stderr):
            shown += "\\x1b[31m" in text or "\\u001b[31m" in text
            if STEERING.search(text) or (not own_words and re.search(r"^\s*JobId=99", text, re.MULTILINE)):
                wrong.append((words, text))
        if "--json" in words:
            assert json.loads(done.stdout)["jobs"]
    assert not wrong
    assert shown >= 10
    for path in Path(instance.sshq_home, "state").glob("*"):
        if path.suffix in (".log", ".jsonl"):
            text = path.read_text(errors="surrogateescape")
            assert not STEERING.search(text), path
            assert "\nJobId=99" not in text
