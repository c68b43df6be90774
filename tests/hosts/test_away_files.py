"""From another machine: what `--stage-out` names reaches it like output does, from private and from shared directories."""

import os
import re
import sys
from types import SimpleNamespace

import pytest

from bed.screen import Screen

SCRIPT = "mkdir -p out/deep other; for f in out/a.csv out/b.txt out/deep/c 'm*x' other/no n.csv; do echo {} >$f; done"
PATTERNS = ("--stage-out", "out/", "--stage-out=*.csv", r"--stage-out=m\*[!y]")
CAME = ["m*x", "n.csv", "out/a.csv", "out/b.txt", "out/deep/c"]


def files_of(laptop) -> list[str]:
    top = laptop.path(".")
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file() and not path.name.startswith("slurm-"))


@pytest.mark.parametrize("way", ["private", "shared"])
def test_what_is_staged_out_comes_to_who_waits(laptop, way):
    laptop.path(".keep").mkdir()
    laptop.path(".keep/x").write_text("")
    sync = ["--sync=.keep"] if way == "private" else []
    done = laptop.run("sbatch", "--wait", *sync, *PATTERNS, "--wrap", SCRIPT.format(1))
    assert (done.returncode, [line for line in done.stderr.splitlines() if "error" in line]) == (0, []), done.stderr
    assert files_of(laptop) == [".keep/x", *CAME]
    assert laptop.path("out/deep/c").read_text() == "1\n"
    assert laptop.run("fetch", "-q").stdout == ""
    # Later: by the job's number, without one, and by waiting; what was changed here since stays, and is told of.
    job = int(laptop.run("sbatch", "--parsable", *sync, *PATTERNS, "--wrap", SCRIPT.format(22)).stdout.split(";")[0])
    laptop.instance.until_state(job, "COMPLETED")
    laptop.instance.wait_for(lambda: not laptop.instance.out("squeue", "-h", "-j", str(job)), 30, "its files to be on the head")
    laptop.path("out/b.txt").write_text("changed here")
    done = laptop.run("fetch", str(job))
    assert set(done.stdout.splitlines()) >= {"n.csv  3 bytes", "out/a.csv  3 bytes", "out/deep/c  3 bytes"}, done
    assert done.stderr == "sshq: out/b.txt is newer here, and stays as it is\n"
    assert laptop.path("n.csv").read_text() == "22\n"
    os.unlink(laptop.path("n.csv"))
    assert "n.csv  3 bytes" in laptop.run("fetch").stdout.splitlines()
    os.unlink(laptop.path("out/a.csv"))
    laptop.run("wait", str(job))
    assert laptop.path("out/a.csv").read_text() == "22\n"
    assert files_of(laptop) == [".keep/x", *CAME]


def test_a_future_brings_them_too(laptop):
    laptop.path("p.py").write_text(
        "import sshq\njob = sshq.Client().submit('#!/bin/sh\\nmkdir r; echo 1 >r/x\\n', sync='.', stage_out=['r/'])\n"
        "print(job.result(60).state, open('r/x').read(), end='')\n"
    )
    done = laptop.call("python", "p.py", timeout_s=90)
    assert (done.stdout, done.stderr) == ("COMPLETED 1\n", "")


def test_where_they_cannot_be_written_it_is_told_and_nothing_else_is_lost(laptop):
    laptop.path("out").write_text("in the way")
    done = laptop.run("sbatch", "--wait", *PATTERNS, "--wrap", SCRIPT.format(1))
    assert done.returncode == 0
    told = [line for line in done.stderr.splitlines() if "not here" in line]
    assert [re.sub(r" /\S*/", " /…/", line) for line in told] == [
        "sbatch: out/a.csv is not here yet: /…/out: File exists",
        "sbatch: out/b.txt is not here yet: /…/out: File exists",
        "sbatch: out/deep/c is not here yet: /…/deep: Not a directory",
    ], done.stderr
    assert laptop.path("n.csv").read_text() == "1\n"


def on_screen(laptop, *words) -> Screen:
    return Screen(SimpleNamespace(argv=lambda *w: laptop.argv(sys.executable, "-m", "sshq.cli.main", *w), work="/", env=laptop.env), *words)


def test_on_a_terminal_bars_show_what_is_sent_and_fetched(laptop):
    for name in "abcdefgh":
        laptop.path(name).write_bytes(os.urandom(12 << 20))
    with on_screen(laptop, "sbatch", "--sync", "--stage-out", "copy", "--wrap", "cat a b c d e f >copy") as screen:
        bars = screen.read_until("go along") + screen.read_until("batch job ")
        job = int(screen.read_until("\n"))
    assert re.search(r"\rsending files to \S+ \[#+ *\] \d+ of 96 MiB\x1b\[K", bars), bars[-400:]
    assert "\r\x1b[Ksbatch: " in bars, bars[-400:]
    laptop.instance.until_state(job, "COMPLETED")
    laptop.instance.wait_for(lambda: not laptop.instance.out("squeue", "-h", "-j", str(job)), 30, "its files to be on the head")
    with on_screen(laptop, "fetch", "--all") as screen:
        bars = screen.read_until("copy  75497472 bytes")
    assert re.search(r"\rcopy  \d+ % of 72 MiB\x1b\[K.*\r\x1b\[Kcopy", bars, re.DOTALL), bars[-400:]
