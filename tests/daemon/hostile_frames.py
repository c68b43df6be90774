"""Frames that no honest client sends: made from the real verbs and their real parameters, by a seed.

Kinds: bytes of no meaning, headers that lie, cut frames, JSON that is not strict (keys twice, NaN, huge numbers, bad
UTF-8, deep nesting), and requests whose values have the wrong type, size or place, one or several at a time.
"""

import copy
import json
import random
import struct

from sshq.controller.requests import PARAMETERS
from sshq.wire.codec import CodecError, decode_json
from sshq.wire.protocol import METHODS

DESCRIPTION = {
    "kind": "script", "name": "fuzz", "script": "#!/bin/sh\nexit 0\n", "args": ["a", "b"], "command": "/w/j.sh a b", "work_dir": "/tmp",
    "submit_dir": "/tmp", "submit_host": "here", "submit_line": "sbatch x",
    "std_out": "o-%j", "std_err": None, "std_in": None, "open_mode": "append", "umask": 18,
    "export": None, "partition": None, "time_limit_s": 60, "num_nodes": 1, "num_tasks": 1, "ntasks_given": False, "ntasks_per_node": None,
    "cpus_per_task": 1, "cpus_per_task_given": False, "memory_mib": 1, "memory_per_cpu_mib": None, "req_nodes": None, "exc_nodes": None,
    "features": None, "exclusive": False, "nice": 0, "priority": None, "held": False, "begin_at": None, "deadline_at": None,
    "dependency": None, "kill_on_invalid_dep": False, "requeue": True, "retries": 0, "signal": None, "comment": None, "account": None,
    "qos": None, "anywhere": True, "array": None, "array_limit": None,
}  # fmt: skip
FILTER = {
    "refs": [[1, None], [2, [3]]], "users": ["root"], "uids": [0], "states": ["PENDING"], "partitions": ["all"], "names": ["fuzz"],
    "nodes": ["l1"], "kinds": ["script"], "accounts": ["a"], "qos": ["q"],
}  # fmt: skip
CHANGES = {
    "name": "x", "partition": "all", "time_limit_s": 120, "nice": 3, "priority": 7, "comment": "c", "begin_at": 2e9,
    "deadline_at": 2e9, "dependency": "afterok:1", "features": None, "req_nodes": [], "exc_nodes": [], "requeue": False,
    "array_limit": 2, "num_tasks": 1, "cpus_per_task": 1, "memory_mib": 5, "hold": True, "held": False,
}  # fmt: skip
SAMPLES: dict[str, object] = {
    "description": DESCRIPTION, "filter": FILTER, "changes": CHANGES, "environ": {"PATH": "/bin", "A": "1"},
    "token": "0123456789abcdef", "test_only": False,
    "directory": {"path": "/tmp", "dev": 1, "ino": 2, "nonce_path": "/tmp/.sshq-nonce-00000000", "nonce": "00000000"},
    "finished": True, "ids": [1, 2], "start_at": 0, "end_at": 2e9, "ref": [1, None], "stream": "out", "follow": False,
    "offset": 0, "attempt": 1, "signal": 15, "batch": False, "full": False, "hurry": False, "refs": [[1, None]], "user": False,
    "hold": False, "older_than_s": 1e9, "names": ["nosuch"], "state": "drain", "reason": "r", "weight": 1, "lines": 5,
}  # fmt: skip

# What is tried in the place of an honest value.
HOSTILE = [
    None, True, False, 0, 1, -1, 2, 31, 40, 64, 65, 2**31, 2**32, 2**53, 2**63 - 1, -(2**63), 1.5, -0.0, 1e308, -1e308, 1e-320, 3e9, 1e18, "", " ",
    "0", "x", "all", "ALL", "l1", "l[1-99999999]", "l[1-2],", "n[", "[[[", "a" * 1023, "a" * 1024, "a" * 1025, "/", "/tmp", "../..",
    "\0", "a\0b", "a\nb", "\r\n", "\x1b]0;title\x07", "\x1b[2J", "\u202egnp.exe", "\udcff\udc80", "%j%x%N%%%99999a", "\\%j", "ü€😀",
    "1-2-3", "0-4000000", "0-3999999999", "0-4000000:1%99999999999999", "1,1,1", "9" * 400, "afterok:1:2", "after:1+5?afterok:2", "afterok:" + "1:" * 900 + "1",
    "afterok:" + ":".join(map(str, range(1, 1500))), "singleton", "after:" + "9" * 30, "afterok:1_*", "a&b|c", "a*[1]", "[", "(((", "a&&b", [], [[]], [None], [1],
    ["x"], [[1]], [[1, None]], [[1, [0]]], [[1, [2**62]]], [[2**63 - 1, None]], [[-1, None]], [[1, "x"]], [["1", None]], [[True, None]],
    [9, 60, True], [9, 10**9, True], ["TERM", 1, False], [9, 60], [[9], [60], [True]], ["\0"], {}, {"": ""}, {"a": {"a": {}}},
    {"a=b": "c"}, {"a": 1}, {"a\0": "b"}, {"refs": []},
]  # fmt: skip
LARGE = ["b" * 70_000, ["x"] * 70_000, [[1, None]] * 2000, {"PATH": "x" * 140_000}, "/" + "p/" * 3000]


class Hostile:
    """Frames by number; the same seed makes the same frames."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.methods = sorted(set(METHODS) - {"down"})  # a well-formed one of those would end the run
        self.sent = 0
        self.jobs = 20  # that there may be

    def request(self) -> dict[str, object]:
        """A request with as many honest values as it takes to get far."""
        pick = self.random
        method = pick.choice(self.methods)
        params = {key: copy.deepcopy(SAMPLES.get(key, False)) for key in PARAMETERS[method] if pick.random() < 0.8}
        for key in [k for k in params if k in ("filter", "description", "changes")]:
            whole = params[key]
            keep = {"filter": 0.2, "description": 0.95, "changes": 0.2}[key]
            params[key] = {k: v for k, v in whole.items() if pick.random() < keep}
        if method == "submit" and pick.random() < 0.8:
            params.pop("directory", None)
            params.pop("test_only", None)
        self._name_jobs(params)
        message: dict[str, object] = {"v": 1, "id": self.sent, "method": method, "params": params}
        for _ in range(pick.choice((0, 0, 1, 1, 2, 5))):
            self._spoil(message if pick.random() < 0.05 else params)
        return message

    def _name_jobs(self, params: dict[str, object]) -> None:
        job = self.random.randint(1, self.jobs)
        for key in params.keys() & {"refs", "ref", "ids"}:
            params[key] = {"refs": [[job, None], [job + 1, [1]]], "ref": [job, None], "ids": [job]}[key]
        if "refs" in params.get("filter", ()):
            params["filter"]["refs"] = [[job, None], [job + 1, None]]

    def _spoil(self, tree: dict[str, object]) -> None:
        """Put something else in the place of one value, at any depth."""
        pick = self.random
        at: object = tree
        while isinstance(at, (dict, list)) and at:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = pick.choice(keys)
            inner = at[key]
            if isinstance(inner, (dict, list)) and inner and pick.random() < 0.8:
                at = inner
                continue
            if isinstance(at, dict) and pick.random() < 0.08:
                key = str(pick.choice(HOSTILE))[:100]
            at[key] = copy.deepcopy(pick.choice(LARGE if pick.random() < 0.02 else HOSTILE))
            return

    def frame(self) -> tuple[bytes, str | None]:
        """One frame, and the method where it is a request that may be answered (or hang, as `wait` does)."""
        self.sent += 1
        pick = self.random
        kind = pick.random()
        if kind < 0.70:
            message = self.request()
            body = _dump(message)
            return _frame(body), _method_of(body)
        if kind < 0.80:
            return _frame(self._loosen(_dump(self.request()))), None
        if kind < 0.90:
            body = bytearray(_dump(self.request()))
            for _ in range(pick.randint(1, 6)):
                body[pick.randrange(len(body))] = pick.randrange(256)
            return _frame(bytes(body)), _method_of(bytes(body))
        if kind < 0.93:
            return struct.pack(">IB", pick.choice((0, 1, 7, 2**16, 2**23 + 1, 2**31, 2**32 - 1)), pick.randrange(256)) + pick.randbytes(9), None
        if kind < 0.96:
            frame = _frame(_dump(self.request()))
            return frame[: pick.randrange(len(frame))], None
        if kind < 0.98:
            return _frame(pick.choice((b"[", b'{"a":', b"[{", b'"')) * pick.choice((40, 3000, 50_000))), None
        return pick.randbytes(pick.randint(1, 300)), None

    def _loosen(self, body: bytes) -> bytes:
        pick = self.random
        return pick.choice((
            lambda: body.replace(b'"params"', b'"params":{},"params"', 1),
            lambda: body.replace(b"1", pick.choice((b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 400, b"01", b"0x1", b"1.")), 1),
            lambda: body.replace(b'"', b"'", 2),
            lambda: body.replace(b"a", b"\xff", 1),
            lambda: body.replace(b"a", b"\xed\xa0\x80", 1),
            lambda: body.replace(b"a", b"\\ud800", 1),
            lambda: body[:-1] + b",}",
            lambda: body + body,
            lambda: b"\xef\xbb\xbf" + body,
            lambda: body.decode("utf-8", "surrogateescape").encode("utf-16", "replace"),
        ))()


def _dump(message: dict[str, object]) -> bytes:
    return json.dumps(message).encode()


def _frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + b"J" + body


def _method_of(body: bytes) -> str | None:
    """What a well-formed body asks for; None where it is none.  A `down` by chance would end the run."""
    try:
        method = decode_json(body).get("method")
    except (CodecError, UnicodeError):
        return None
    return method if isinstance(method, str) else None
