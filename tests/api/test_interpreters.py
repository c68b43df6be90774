"""Hosts are asked for the Python a call needs before it is queued: one with it, one with another, one with none."""

import os
import sys
from glob import glob
from pathlib import Path

import pytest

from api.conftest import run_program

OTHERS = sorted(glob(os.path.expanduser("~/.pyenv/versions/3.*")) + glob("/opt/python/3.*"))  # whole trees, one a version
CALL = """
    import json, sshq, sys
    from sshq.errors import SshqError

    def where():
        import os, platform
        return os.environ["SLURMD_NODENAME"], platform.python_version(), sys.executable

    said = {}
    def ask(name, **options):
        try:
            said[name] = sshq.Executor(time="1:00", **options).submit(where).result(60)
        except (SshqError, ValueError) as error:
            said[name] = f"{type(error).__name__}: {error}"
"""


def test_calls_go_where_they_can_run_and_nowhere_else(hosts, instance):
    """Real interpreters of real versions; one host has busybox and no Python."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    other = next((path for path in OTHERS if f"/{version}." not in path and os.access(f"{path}/bin/python3", os.X_OK)), None)
    if other is None:
        pytest.skip("optional: another version of Python as a tree of its own, as pyenv makes them")
    right, old = hosts(2)
    bare = hosts(1, root="busybox", server="dropbear")[0]
    for host, tree in ((right, sys.base_prefix), (old, other)):
        host.sh("rm -f /usr/bin/python3")
        host.share(tree, tree)
        host.sh(f'p={tree}; while [ "$p" ]; do chmod go+x "$p" 2>/dev/null; p=${{p%/*}}; done; true')
        host.sh(f"ln -s {tree}/bin/python3 /usr/local/bin/python3")
    instance.use([right, old, bare], host_vars={old.name: {"sshq_features": ["old"]}, bare.name: {"sshq_features": ["bare"]}})
    instance.up()
    instance.ready()
    said = run_program(instance, CALL + f"""
    ask("right")
    for name, only in (("old", {old.name!r}), ("bare", {bare.name!r})):
        ask(name, nodelist=only)
    ask("lacking", requires=["no-such-thing>=2"])
    ask("by_path", python={other + "/bin/python3"!r}, nodelist={right.name!r})
    builtin = sshq.Executor(python="/usr/local/bin/python3", nodelist={old.name!r}).submit(pow, 2, 3)  # by name: any version
    said["builtin"] = builtin.result(60)
    with sshq.Pool(1) as pool:
        said["pool"] = pool.apply(where)[0]
    try:
        sshq.Pool(1, hosts=[{bare.name!r}])
    except SshqError as error:
        said["no_pool"] = str(error)
    print(json.dumps(said))
    """)
    numbers = os.path.basename(other)
    assert said["right"][0] == right.name
    assert said["right"][1].startswith(version)
    assert said["old"] == f"RefusedError: no host of partition lab has a Python {version}: {old.name} has {numbers} (/usr/local/bin/python3)"
    assert said["bare"] == f"RefusedError: no host of partition lab has a Python {version}: {bare.name} has none"
    lacks = f"{right.name} /usr/local/bin/python3 ({'.'.join(map(str, sys.version_info[:3]))}) lacks no-such-thing"
    assert said["lacking"].startswith(f"RefusedError: no host of partition lab has a Python {version} with no-such-thing>=2: ")
    assert lacks in said["lacking"] or f"{right.name} {sys.executable}" in said["lacking"]
    assert said["by_path"].endswith(f"has a Python {version} at {other}/bin/python3: {right.name} has none")
    assert (said["builtin"], said["pool"]) == (8, right.name)
    assert said["no_pool"].endswith(f"{bare.name} has none")
    instance.wait_for(lambda: instance.out("squeue", "-h") == "", 20, "nothing that was refused is left in the queue")


def test_a_job_waits_for_hosts_that_have_not_answered_and_why_says_so(loopback, instance):
    """The only host that could have it is away; it comes back, is asked, and the call runs."""
    here, away = loopback.hosts[:2]
    instance.use([here, away], host_vars={here.name: {"sshq_features": ["no"]}, away.name: {"sshq_features": ["yes"]}})
    away.stop()
    instance.up()
    instance.wait_for(lambda: instance.out("sinfo", "-h", "-n", here.name, "-o", "%t").strip() == "idle", 20, "one host is ready")
    try:
        text = CALL + """
    job = sshq.Executor(constraint="yes").submit(where)
    print(json.dumps(job.job_id))
    """
        job = run_program(instance, text)
        assert "unreachable" in instance.out("why", str(job))
    finally:
        away.start()
        away.wait_up()
    instance.run("hosts", "retry", away.name)
    assert instance.until_state(job, "COMPLETED", "FAILED") == "COMPLETED"


def test_own_modules_are_shipped_as_source(program, shared_lab):
    """A package outside of the working directory, with a submodule and a data file; and what cannot travel is told at once."""
    place = Path(shared_lab.home, "elsewhere")
    package = place / "mytools"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from mytools.inner import double\n")
    (package / "inner.py").write_text("import os\ndef double(x):\n    return 2 * x, open(os.path.dirname(__file__) + '/data.txt').read()\n")
    (package / "data.txt").write_text("data")
    (place / "compiled").mkdir()
    (place / "compiled" / "__init__.py").write_text("")
    (place / "compiled" / "fast.so").write_bytes(b"\x7fELF")
    found = program(f"""
        import json, sys, sshq
        from sshq.errors import SshqError

        sys.path.append({str(place)!r})
        import mytools

        def call(x):
            import mytools.inner  # by name, on the node
            return mytools.inner.double(x), mytools.inner.__file__.startswith({str(place)!r})

        sys.path.remove({str(place)!r})
        one = sshq.Executor(ship=[mytools]).submit(call, 21)
        two = sshq.Executor(ship=[{str(package)!r}]).submit(mytools.double, 4)
        with sshq.Pool(1, ship=[mytools]) as pool:
            three = pool.map(mytools.double, [5])
        said = []
        for ship in ([{str(place / "compiled")!r}], ["/no/such/module"], [sys], ["/etc/passwd"]):
            try:
                sshq.Executor(ship=ship)
            except SshqError as error:
                said.append(error.message)
        print(json.dumps([one.result(60), two.result(60), three, said]))
    """)
    assert found[:3] == [[[42, "data"], False], [8, "data"], [[10, "data"]]]
    assert found[3] == [
        "compiled cannot be shipped: compiled/fast.so is compiled for this machine", "ship: /no/such/module is not there",
        "module sys cannot be shipped: it is no Python source", "ship: /etc/passwd is no Python source",
    ]  # fmt: skip
