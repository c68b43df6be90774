"""Every parser, fed with damaged input: it returns, or raises its documented error.  Nothing else comes out, and soon.

Two kinds of input: honest samples with pieces cut, doubled, swapped and replaced by what trips parsers (structure kept),
and bytes.  A campaign: SSHQ_FUZZ_INPUTS=2000000 SSHQ_FUZZ_SEED=n pytest tests/inventory/test_fuzz.py
"""

import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sshq.core.arrays import format_indices, parse_array, parse_indices
from sshq.core.dependency import parse_dependency
from sshq.core.features import parse_constraint
from sshq.core.hostlist import HostlistError, expand_ansible_range, expand_hostlist, fold_hostlist
from sshq.core.ids import parse_job_id, parse_job_ids, split_job_list
from sshq.core.model import Accounting, Job, JobSpec, Launch, NodeRecord
from sshq.core.times import parse_begin
from sshq.core.units import parse_memory, parse_time_limit, suggest_time_limit
from sshq.errors import InventoryError, SshqError, StoreError
from sshq.inventory.config import parse_config
from sshq.inventory.facts import parse_facts
from sshq.runner import protocol as rp
from sshq.slurm.directives import check_script, read_directives, split_words
from sshq.slurm.environ import read_export_file, split_export
from sshq.slurm.fields_squeue import JOB_FIELDS as SQUEUE_FIELDS
from sshq.slurm.filename import expand_filename
from sshq.slurm.layout import read_format, read_long_format
from sshq.slurm.scontrol import parse_update
from sshq.slurm.submit import build_submission
from sshq.store.records import Codec, seal
from sshq.transport.knownhosts import parse_line
from sshq.wire.channel import RequestError, parse_request

from .files import load_text

INPUTS = int(os.environ.get("SSHQ_FUZZ_INPUTS", "20000"))  # all parsers together
SEED = int(os.environ.get("SSHQ_FUZZ_SEED", "1"))
SLOW_S = 20.0  # one input; quadratic or worse would be minutes, and this machine may be busy

NASTY = [
    "", " ", "\n", "\r\n", "\t", "\0", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\udcff", "\udc80", "é", "٣", "²", "😀", "'", '"', "`", "\\", "\\\n",
    "[", "]", "[[", "{", "}", "{{ x }}", "(", ")", "<", ">", ",", ",,", ":", "::", ";", "=", "==", "-", "--", "---", "...", "- ", "? ", "! ", "!!python/object:os.system",
    "&a", "*a", "<<: *a", "|", "|2-", ">", "%", "%%", "%9999999999j", "#", "# ", "@", "+", "*", "?", "~", "null", "true", "0", "1", "-1", "007", "1e999", "nan", "inf",
    "9" * 20, "9" * 400, "1-", "-1-", "5-3", "1-99999999999", "0-4000000:0", "1:2:3:4:5", "99:99:99", "1-2-3", "a" * 5000, "/" * 300, "../" * 50, "NaN", "0x10", "1_000",
    "unlimited", "now+", "now+1e9days", "24:61", "2026-02-30", "afterok:", "after:1+", "1_[", "1_*", "n[1-3", "n[01-9]", "n[a:f]", "ws[1:9:0]", "END", "SSHQ", "S ", "X ",
]  # fmt: skip
ID = "0123456789abcdef" * 2
NONCE = "n0nce"
RECORD = (
    f"1 {ID} how=exit status=3 why=- sent=TERM,KILL term=0 start=10.00 end=12.50 began=1700000000 ended=1700000002 user=0m1.5s sys=0m0.2s boot=aa-bb:1:2 left=12:sh"
)
ENTRY = f"{ID} 1000001 12 1 file 1 1 4242 9999 10.00 1 {RECORD}"


def read_replies(data: bytes) -> None:
    """A stream never ends the connection: what is not understood is a reply that says so."""
    parser = rp.ReplyParser(NONCE)
    for start in range(0, len(data), 97):
        parser.feed(data[start : start + 97])


def make_submission(text: str) -> None:
    """The words of a command line; the same ones stand in a variable and in a directive."""
    words = text.split("\x1f")
    script = b"#!/bin/sh\n#SBATCH -J " + as_bytes(words[1 % len(words)]) + b"\n"
    build_submission(
        words, {"SBATCH_ACCOUNT": words[-1], "HOME": "/h"}, read_file=lambda _: script, read_stdin=lambda: script, now=1.7e9, umask=18, cwd="/w",
    )  # fmt: skip


def fold_again(text: str) -> None:
    names = expand_hostlist(text)
    plain = [n for n in names if n and not re.search(r"[\[\],\s]", n)]
    if plain:
        assert expand_hostlist(fold_hostlist(plain, sort=False)) == plain


def read_set(text: str) -> None:
    assert format_indices(parse_indices(text)) is not None


def read_row(codec: Codec, **given: object) -> Callable[[str], object]:
    """With a checksum that fits, so that what comes behind it is read too."""
    return lambda text: codec.decode(seal(text.encode("utf-8", "replace").decode()), **given)


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


INVENTORY = """all:
  vars: {sshq_slots: 2, ansible_user: u, sshq_nice: 5}
  hosts:
    ws[01:03]: {ansible_host: 10.0.0.1, ansible_port: 2222, sshq_memory: 4G, sshq_features: [a, b]}
    n1: &n1
      ansible_ssh_common_args: "-o ProxyJump=gw -J x"
      sshq_spool: /var/tmp/s
  children:
    fast: {hosts: {n1: null}, vars: {sshq_max_time: "2-00", sshq_default: true, sshq_priority_tier: 3}}
    slow: {children: {fast: {}}}
"""
CONFIG = "log_level: debug\nkill_wait: 30s\nscript_max: 4M\nhistory_keep: never\njobs_max: 1000\nstate_dir: /x\naudit: yes\ndefault_time: 1-00:00\n"
SCRIPT = "#!/bin/bash\n#SBATCH -J x --time=1:00 -a 0-9%2\n#SBATCH --mem 4G -o 'a b' # c\n#PBS -l walltime=1\n#BSUB -J x\n\necho hi\n#SBATCH late\n"

# name: the parser, honest samples, what it may raise
Parser = tuple[Callable[[str], object], list[str], tuple[type[Exception], ...]]
PARSERS: dict[str, Parser] = {
    "exit records": (rp.parse_record, [RECORD, f"{RECORD} oom=1 new=x"], ()),
    "listed launches": (rp.parse_entry, [ENTRY, f"{ID} 5 5 1 none 0 0 0 0 - 1 -"], ()),
    "replies": (lambda t: read_replies(as_bytes(t)), [f"noise\nSSHQ {NONCE} 1 1 aa:1:2 0 root /r /bin/sh /s i 5\n", f"S {ID} 42 99 10.00\nX {RECORD}\n",
                f"L {NONCE} 2\nE {ENTRY}\nE {ENTRY}\nZ {NONCE} 2\n", f"K {ID} killed 12:sh\nW tag 1 -\nO tag 0.5 100 10.0 ok\nE - spool gone\n"], ()),
    "file heads": (lambda t: rp.parse_read_head(as_bytes(t), NONCE), [f"SSHQ-READ {NONCE} 42 99 1000\nbytes", f"SSHQ-READ {NONCE} error missing\n"], ()),
    "facts": (lambda t: parse_facts([tuple(line.partition(" ")[::2]) for line in t.split("\n")]),
              ["cpus 8\nmemory 16000000\nos Debian 13\nkernel 6.1\ntopology 1 4 2\ntmp 100\nboot 1700000000\nload 0.5"], ()),
    "inventories": (lambda t: load_text(as_bytes(t)), [INVENTORY, "all: {hosts: {a: {sshq_slots: 1}}}"], (InventoryError,)),
    "settings": (lambda t: parse_config(as_bytes(t), "config.yaml"), [CONFIG], (InventoryError,)),
    "directives": (lambda t: read_directives(t, "j.sh"), [SCRIPT], (SshqError,)),
    "scripts": (lambda t: check_script(as_bytes(t)), [SCRIPT], (SshqError,)),
    "words": (split_words, ["a 'b c' \"d e\" f\\ g # h"], (ValueError, SshqError)),
    "submissions": (make_submission, ["\x1f".join(words) for words in (
        ["-J", "x", "--time=1:00", "-n2", "--mem", "4G", "-a", "0-9:2%3", "--wrap", "true"], ["-d", "afterok:1", "--begin=now+1hour", "-w", "n1", "--signal=B:TERM@60", "j.sh", "a"],
        ["--nice=5", "--export=A=1,B", "--open-mode=append", "-o", "%j.out", "--requeue", "-C", "a&b", "j.sh"])], (SshqError,)),
    "host lists": (fold_again, ["n[1-3,07-09],x", "a[1-2]b[3-4],c d", "rack[0-3]n[01-16]"], (HostlistError,)),
    "inventory ranges": (expand_ansible_range, ["ws[01:12]", "db-[a:f]x[1:9:2]", "[:3]"], (HostlistError,)),
    "time limits": (parse_time_limit, ["30", "1:30", "1:00:00", "2-3", "2-3:4:5", "UNLIMITED"], (ValueError,)),
    "time hints": (suggest_time_limit, ["1h30m", "2d", "90s"], ()),
    "memory": (parse_memory, ["100", "4G", "512kb", "1T"], (ValueError,)),
    "times": (lambda t: parse_begin(t, 1.7e9, lambda _: 3600), ["now", "now+2hours", "16:00", "tomorrow", "2026-11-22T10:00:00", "noon", "01/02/27-10:00"], (ValueError,)),
    "arrays": (parse_array, ["0-9", "1,3,5-7:2%4", "0-99:10"], (ValueError,)),
    "index sets": (read_set, ["0-9,12,14-20"], (ValueError,)),
    "dependencies": (parse_dependency, ["afterok:1:2", "after:1+5?afterany:2_3", "singleton", "aftercorr:7,afternotok:8_*"], (ValueError,)),
    "constraints": (parse_constraint, ["a&b", "a|b", "(a|b)&c"], (ValueError,)),
    "job ids": (lambda t: (split_job_list(t), parse_job_ids(t), parse_job_id(t)), ["12", "12_4", "12_[1-5,7]"], (ValueError,)),
    "file names": (lambda t: expand_filename(t, {"job_id": 1, "array_job_id": 2, "array_task_id": None, "user": "u", "name": "n", "node": "h"}), ["slurm-%j.out", "%A_%4a-%x-%N%%\\"], ()),
    "formats": (lambda t: (read_format(t, SQUEUE_FIELDS), read_long_format(t, SQUEUE_FIELDS)), ["%.18i %.9P|%!%%", "jobid:18,name:.10,nosuch"], ()),
    "exports": (lambda t: (split_export(t), read_export_file(t)), ["ALL,A=1,B='x,y'", "A=1\0B=2\0"], ()),
    "updates": (lambda t: parse_update(t.split("\x1f"), 1.7e9), ["jobid=1\x1fnice=5\x1ftimelimit=+5", "nodename=n[1-2]\x1fstate=drain\x1freason=x", "job\x1f3\x1fstarttime=now"], (SshqError,)),
    "known hosts": (lambda t: parse_line(t, "known_hosts:1"), ["host,[h]:22 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ", "|1|c2FsdA==|aGFzaA== ssh-rsa AAAA", "@revoked * ssh-rsa A"], (SshqError, ValueError)),
    "requests": (lambda t: parse_request(as_bytes(t)), ['{"v":1,"id":1,"method":"jobs","params":{"filter":{"refs":[[1,null]]}}}'], (RequestError,)),
    **{f"rows: {record.__name__}": (read_row(Codec(record)), samples, (StoreError,)) for record, samples in (
        (JobSpec, ['{"v":1,"name":"a","uid":1,"user":"u","gid":1,"group":"g","script":"s","environ":"e","args":["x"],"signal":[1,2,true]}']),
        (Launch, [f'{{"v":1,"id":"{ID}","job_id":1,"attempt":1,"node":"n","seq":1,"epoch":1,"boot":"b","spool_id":"s","decided_at":1.0}}']),
        (Accounting, [f'{{"v":1,"launch_id":"{ID}","job_id":1,"attempt":1,"node":"n","state":"COMPLETED","outcome":"EXITED","start_at":1.0,"end_at":2.0}}']),
        (NodeRecord, ['{"v":1,"name":"n","generation":3,"boot":"b","facts":"{}"}']),
    )},
    "rows: Job": (read_row(Codec(Job, leave_out=("spec",)), spec=None), ['{"v":1,"job_id":1,"spec_id":1,"submit_at":1.0,"state":"RUNNING","nodes":["n"]}'], (StoreError,)),
}  # fmt: skip
BEGINS = re.compile(r"\w+|\s+|[^\w\s]")


def damage(pick: random.Random, sample: str) -> str:
    """The sample with some of its tokens dropped, doubled, swapped, or replaced; or with some of its bytes changed."""
    if pick.random() < 0.25:
        raw = bytearray(as_bytes(sample))
        for _ in range(pick.randint(1, 8)):
            at = pick.randrange(len(raw)) if raw else 0
            choice = pick.random()
            if choice < 0.5 and raw:
                raw[at] = pick.randrange(256)
            elif choice < 0.75 and raw:
                del raw[at]
            else:
                raw.insert(at, pick.randrange(256))
        return bytes(raw).decode("utf-8", "surrogateescape")
    tokens = BEGINS.findall(sample)
    for _ in range(pick.choice((1, 1, 1, 2, 3, 6))):
        if not tokens:
            tokens = [pick.choice(NASTY)]
        at, other = pick.randrange(len(tokens)), pick.randrange(len(tokens))
        choice = pick.random()
        if choice < 0.4:
            tokens[at] = pick.choice(NASTY)
        elif choice < 0.6:
            tokens.insert(at, pick.choice(NASTY))
        elif choice < 0.7:
            del tokens[at]
        elif choice < 0.8:
            tokens[at], tokens[other] = tokens[other], tokens[at]
        elif choice < 0.9:
            tokens[at:at] = tokens[other : other + pick.randint(1, 9)]
        else:
            tokens[at] *= pick.choice((2, 3, 50))
    return "".join(tokens)


@pytest.mark.timeout(300 + INPUTS // 200)
@pytest.mark.parametrize("name", PARSERS)
def test_only_the_documented_error_comes_out(name):
    parse, samples, errors = PARSERS[name]
    pick = random.Random(f"{SEED} {name}")
    outcomes: Counter[str] = Counter()
    for sample in samples:
        parse(sample)
    for number in range(max(50, INPUTS // len(PARSERS))):
        text = damage(pick, pick.choice(samples))
        began = time.process_time()
        try:
            parse(text)
            outcomes["read"] += 1
        except errors:
            outcomes["refused"] += 1
        except Exception as error:
            raise AssertionError(f"seed {SEED}, {name}, input {number}: {text!r}: {type(error).__name__}: {error}") from error
        assert time.process_time() - began < SLOW_S, f"seed {SEED}, {name}, input {number}: {text!r} took too long"
    assert outcomes["refused"] or not errors


def test_the_whole_of_what_nodes_and_users_send_is_in_the_table():
    """Parsers of the runner's protocol and of the core, by their names: a new one belongs into the table above."""
    root = Path(rp.__file__).parents[1]
    source = Path(__file__).read_text()
    public = {
        name
        for module in ("runner/protocol.py", "core/units.py", "core/arrays.py", "core/dependency.py", "core/features.py", "core/hostlist.py", "core/ids.py", "core/times.py", "inventory/facts.py")
        for name in re.findall(r"^def ((?:parse|expand|read)_\w+)\(", (root / module).read_text(), re.MULTILINE)
    }  # fmt: skip
    assert {name for name in public if not re.search(rf"\b{name}\b", source)} <= {"parse_count"}
