"""Files that go along with a job to hosts that share nothing, some, or all: what arrives, what crosses the wire, what goes wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path


def tree_of(top):
    """What a tree holds, by path: kind, content or target, permissions."""
    found = {}
    top = os.fsencode(top)
    for folder, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(folder, name)
            short = os.path.relpath(path, top)
            if os.path.islink(path):
                found[short] = ("link", os.readlink(path))
            elif os.path.isdir(path):
                found[short] = ("dir", b"")
            else:
                found[short] = (oct(os.stat(path).st_mode & 0o777), Path(os.fsdecode(path)).read_bytes())
    return found


def staged(instance):
    """Bytes sent and bytes of the tree, of each staging that the controller logged."""
    return [(int(a), int(b)) for a, b in re.findall(r"staged: (\d+) of (\d+) bytes sent", instance.logs(4000))]


def start(instance, hosts, **keys):
    instance.use(hosts, **keys)
    instance.up()
    instance.ready()


def test_a_tree_goes_to_a_host_that_shares_nothing_and_only_what_changed_goes_again(hosts, instance):
    start(instance, hosts())
    work = Path(instance.work)
    (work / ".gitignore").write_text("*.tmp\n")
    (work / "lost.tmp").write_text("lost")
    (work / "src/empty").mkdir(parents=True)
    for number in range(40):
        (work / f"src/module{number}.py").write_bytes(os.urandom(20_000))
    (work / "data.bin").write_bytes(os.urandom(9_000_000))
    (work / "run.sh").write_text("#!/bin/sh\ncat message\nls -A\n")
    (work / "run.sh").chmod(0o755)
    (work / "message").write_text("first\n")
    (work / "link").symlink_to("src/module1.py")
    done = instance.run("sbatch", "--sync", "--wait", "--wrap", "./run.sh; test -L link -a -x run.sh && sha256sum <link")
    assert done.returncode == 0, done.stderr + instance.read("slurm-1.out") + instance.logs()
    assert re.match(r"sbatch: 47 files and directories go along, \d+ bytes \(\d+ new\)\n", done.stderr), done.stderr
    lines = instance.read("slurm-1.out").splitlines()
    assert lines[0] == "first"
    assert set(lines[1:-1]) == {".gitignore", "src", "data.bin", "run.sh", "message", "link"}
    (work / "message").write_text("second\n")
    assert instance.run("sbatch", "--sync", "--wait", "--wrap", "./run.sh").returncode == 0
    assert instance.read("slurm-2.out").startswith("second\n")
    (first, size), (second, _) = staged(instance)
    assert first > 9_800_000
    assert size > 9_800_000
    assert second < 1_000_000, second


def test_python_takes_files_along_too(hosts, instance):
    start(instance, hosts())
    Path(instance.work, "data").mkdir()
    Path(instance.work, "data/x.txt").write_text("from here\n")
    program = (
        "import sshq\nclient = sshq.Client()\n"
        "one = client.submit(['cat', 'data/x.txt'], stage_in=['data/x.txt'])\n"
        "two, three = client.submit_many([['cat', 'data/x.txt'], ['ls', 'data']], sync='.')\n"
        "for job in one, two, three:\n    print(job.result(60).state, job.stdout(), end='')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=instance.env, cwd=instance.work, capture_output=True, text=True, timeout=90)
    assert (done.stdout, done.stderr) == ("COMPLETED from here\nCOMPLETED from here\nCOMPLETED x.txt\n", "")
