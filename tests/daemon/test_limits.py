"""The limits of what may be asked: at the limit it works, one over it is refused by name, with what is allowed.

The table is the documentation of the bounds; each is asked of a real controller at its socket.
"""

import json

import pytest

from sshq.errors import RefusedError
from sshq.wire.client import Client

from .hostile_frames import DESCRIPTION

pytestmark = pytest.mark.slow

MIB = 1 << 20
WORD = (128 << 10) - 1
LONG = 1024

# key of the description, at the limit, one over, what the refusal says
TABLE = [
    ("name", "n" * LONG, "n" * (LONG + 1), "name has 1025 bytes, 1024 are allowed"),
    ("name", "ü" * (LONG // 2), "ü" * (LONG // 2) + "n", "name has 1025 bytes"),
    ("comment", "c" * LONG, "c" * (LONG + 1), "comment has 1025 bytes"),
    ("account", "a" * LONG, "a" * (LONG + 1), "account has 1025 bytes"),
    ("qos", "q" * LONG, "q" * (LONG + 1), "qos has 1025 bytes"),
    ("submit_host", "h" * 255, "h" * 256, "submit_host has 256 bytes, 255 are allowed"),
    ("std_out", "o" * 4095, "o" * 4096, "std_out has 4096 bytes, 4095 are allowed"),
    ("std_err", "o" * 4095, "o" * 4096, "std_err has 4096 bytes"),
    ("std_in", "o" * 4095, "o" * 4096, "std_in has 4096 bytes"),
    ("work_dir", "/" + "w" * 4094, "/" + "w" * 4095, "work_dir has 4096 bytes"),
    ("args", ["a" * WORD], ["a" * (WORD + 1)], "args[0] has 131072 bytes, 131071 are allowed"),
    ("args", ["a"] * (MIB // 2), ["a"] * (MIB // 2) + [""], "args has 1048577 bytes, 1048576 are allowed"),
    ("export", "e" * (64 << 10), "e" * (64 << 10) + "e", "export has 65537 bytes"),
    ("script", "#!/bin/sh\n" + ":" * (4 * MIB - 10), "#!/bin/sh\n" + ":" * (4 * MIB - 9), "4194304 are allowed"),
    ("array", "0-100000", "0-100001", "indices are whole numbers below 100001"),
    ("array", ",".join(["0"] * (32 << 10)), ",".join(["0"] * (32 << 10)) + ",0", "array has 65537 bytes"),
    ("array_limit", 2**31 - 1, 2**31, "array_limit is not a whole number from 0 to 2147483647"),
    ("dependency", "after:" + ":".join(map(str, range(1, 1001))), "after:" + ":".join(map(str, range(1, 1002))), "dependency has 1001 jobs, 1000 are allowed"),
    ("dependency", "afterany:" + "1:" * 65_531 + "1", "afterany:" + "1:" * 65_531 + "11", "dependency has 131073 bytes"),
    ("nice", 2_147_483_645, 2_147_483_646, "nice is not a whole number from -2147483645 to 2147483645"),
    ("nice", -2_147_483_645, -2_147_483_646, "nice is not"),
    ("priority", 2**32 - 1, 2**32, "priority is not a whole number from 0 to 4294967295"),
    ("time_limit_s", 0xFFFFFFFD * 60, 0xFFFFFFFD * 60 + 1, "time_limit_s is not"),
    ("memory_per_cpu_mib", 0, -1, "memory_per_cpu_mib is not"),
    ("begin_at", 253_402_214_400, 253_402_214_401, "begin_at is not a number from 0 to 253402214400"),
    ("deadline_at", 253_402_214_400, 1e300, "deadline_at is not"),
    ("retries", 999_999_999, 10**9, "retries is not"),
    ("umask", 0o777, 0o1000, "umask is not a whole number from 0 to 511"),
    ("signal", [31, 65_535, True], [32, 60, True], "signal[0] is not a whole number from 1 to 31"),
    ("signal", [1, 0, False], [1, 65_536, False], "signal[1] is not"),
    ("requeue", "always", "never", "requeue is not one of true, false, always"),
    ("open_mode", "append", "a", "open_mode is not one of append, truncate"),
    ("num_tasks", 1, 0, "num_tasks is not a whole number from 1 to"),
    ("kind", "script", "nosuch", "no such kind of job: nosuch"),
]  # fmt: skip
# For variables: name, value at the limit, one over.
ENVIRON = [
    ({"A": "x" * (WORD - 2)}, {"A": "x" * (WORD - 1)}, "environ.A has 131072 bytes, 131071 are allowed"),
    ({f"V{n:02}": "x" * 65_531 for n in range(16)}, {f"V{n:02}": "x" * 65_531 for n in range(16)} | {"": ""}, "a name without ="),
    ({f"V{n:02}": "x" * 65_531 for n in range(16)}, {f"V{n:02}": "x" * 65_531 for n in range(16)} | {"A": "x"}, "1048576 are allowed"),
]  # fmt: skip


@pytest.fixture(scope="module")
def ask(loopback):
    """One controller for the whole table; its partition is down, so that what is accepted waits."""
    from bed import Instance

    with Instance() as instance:
        instance.use(loopback.hosts[:1], sshq_state="down")
        instance.up()
        instance.ready()
        with Client(f"{instance.sshq_home}/sock") as client:
            client.instance = instance
            yield client


def submit(client, environ=None, **changed) -> int:
    return client.call("submit", {"description": DESCRIPTION | changed, "environ": environ or {}})["job_id"]


@pytest.mark.parametrize(("key", "allowed", "over", "says"), TABLE, ids=[f"{key} {number}" for number, (key, *_) in enumerate(TABLE)])
def test_one_over_a_limit_is_refused_by_name(ask, key, allowed, over, says):
    job = submit(ask, **{key: allowed})
    assert [view["job_id"] for view in ask.stream("jobs", {"filter": {"refs": [[job, None]]}})] == [job]
    with pytest.raises(RefusedError) as caught:
        submit(ask, **{key: over})
    text = caught.value.render("sbatch")
    assert says in text, text
    assert caught.value.code in ("bad_request", "too_large")
    ask.call("cancel", {"filter": {"refs": [[job, None]]}})


@pytest.mark.parametrize(("allowed", "over", "says"), ENVIRON, ids=["one variable", "its name", "all together"])
def test_an_environment_has_a_limit(ask, allowed, over, says):
    assert submit(ask, environ=allowed)
    with pytest.raises(RefusedError) as caught:
        submit(ask, environ=over)
    assert says in caught.value.render("sbatch")


@pytest.mark.parametrize(
    ("method", "allowed", "over", "says"),
    [
        ("jobs", {"filter": {"refs": [[2**63 - 1, None]] * 1000}}, {"filter": {"refs": [[1, None]] * 100_001}}, "filter.refs has 100001 members"),
        ("jobs", {"filter": {"names": ["n"] * 65_536}}, {"filter": {"names": ["n"] * 65_537}}, "filter.names has 65537 members"),
        ("wait", {"ids": [9] * 100_000}, {"ids": [9] * 100_001}, "ids has 100001 members"),
        ("hosts_retry", {"names": ["n" * 1024]}, {"names": ["n" * 1025]}, "names[0] has 1025 bytes"),
        ("update_node", {"names": ["l1"], "state": "resume", "reason": "r" * 1024}, {"names": ["l1"], "state": "resume", "reason": "r" * 1025}, "reason has 1025 bytes"),
        ("update_node", {"names": ["l1", "n[1-99]"], "state": "resume"}, {"names": ["l1", "n[1-65536]"], "state": "resume"}, "more than 65536 names"),
        ("controller_log", {"lines": 10**6}, {"lines": 10**6 + 1}, "lines is not a whole number from 0 to 1000000"),
        ("cancel", {"filter": {"names": ["nosuch"]}, "signal": 31}, {"filter": {"names": ["nosuch"]}, "signal": 32}, "signal is not a whole number from 1 to 31"),
        ("cancel", {"filter": {"refs": [[999_999, None]]}}, {"filter": {}}, "No job identification provided"),
        ("cancel", {"filter": {"refs": [[999_999, None]]}}, {"filter": {"refs": []}}, "No job identification provided"),
        ("cancel", {"filter": {"accounts": ["nosuch"]}}, {"filter": {"acounts": ["nosuch"]}}, "unknown parameter 'filter.acounts'"),
        ("update_job", {"refs": [[999_999, None]], "changes": {"nice": 5, "new_thing": None}}, {"refs": [[999_999, None]], "changes": {"new_thing": 1}}, "sshq down && sshq up"),
        ("update_job", {"refs": [[999_999, None]], "changes": {"name": "n" * 1024}}, {"refs": [[999_999, None]], "changes": {"name": None}}, "changes.name is not a text"),
        ("purge", {"refs": [[999_999, None]]}, {"older_than_s": -1}, "older_than_s is not a number from 0"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)  # fmt: skip
def test_other_requests_have_limits_too(ask, method, allowed, over, says):
    for _ in ask.stream(method, allowed):
        pass
    with pytest.raises(RefusedError) as caught:
        ask.call(method, over)
    assert says in caught.value.render("sshq")


def test_a_job_named_a_hundred_thousand_times_is_one(ask):
    """Each mention made a view of its own, while everybody else waited."""
    job = submit(ask)
    ask.call("cancel", {"filter": {"refs": [[job, None]] * 100_000}})
    assert len(list(ask.stream("wait", {"ids": [job] * 100_000}))) == 1
    assert len(ask.call("hold", {"refs": [[job, None]] * 100_000})["results"]) == 1


def test_a_wait_for_more_jobs_than_one_turn_shows_brings_them_all(ask):
    jobs = [submit(ask) for _ in range(520)]
    ask.call("cancel", {"filter": {"refs": [[job, None] for job in jobs]}})
    stream = ask.stream("wait", {"ids": [*jobs, 10**9]})
    assert [view["job_id"] for view in stream] == jobs
    assert stream.result == {"unknown_ids": [10**9]}


def test_refusals_reach_the_user_in_slurms_words(ask):
    instance = ask.instance
    done = instance.run("sbatch", "--comment", "c" * 1025, "--wrap", "true")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == (
        "sbatch: error: Batch job submission failed: Pathname of a file, directory or other parameter too long"
    )
    assert "comment has 1025 bytes, 1024 are allowed" in done.stderr
    done = instance.run("sbatch", "--nice=3000000000", "--wrap", "true")
    assert (done.returncode, "from -2147483645 to 2147483645" in done.stderr) == (1, True)
    for words in (["-J", "x" * 2000], ["--retries=9999999999"], ["-a", "0-5000000"], ["--mem=99999999T"], ["-n", "99999999999"]):
        done = instance.run("sbatch", *words, "--wrap", "true")
        assert done.returncode != 0, words
        assert done.stderr.startswith("sbatch: error: "), done.stderr
        assert "bug" not in done.stderr


def test_a_cancel_by_account_spares_the_others(ask):
    """The controller took no notice of --account and --qos, and cancelled everything there was."""
    instance = ask.instance
    mine, theirs = (submit(ask, account=account, qos=account) for account in ("mine", "theirs"))
    instance.run("scancel", "--account", "mine", check=True)
    instance.run("scancel", "--qos", "nosuch", check=True)
    assert instance.state(mine).startswith("CANCELLED")
    assert instance.state(theirs) == "PENDING"


def test_as_many_jobs_as_the_configuration_allows(instance, loopback):
    instance.use(loopback.hosts[:1], sshq_state="down")
    instance.write_config("jobs_max: 5\nenvironment_max: 2K\nscript_max: 1K\narray_size_max: 10\n")
    instance.up()
    with Client(f"{instance.sshq_home}/sock") as client:
        submit(client, array="0-9")  # counts as one until its tasks start
        for _ in range(4):
            submit(client)
        with pytest.raises(RefusedError) as caught:
            submit(client)
        assert caught.value.code == "not_now"
        done = instance.run("sbatch", "--wrap", "true")
        assert (done.returncode, "unable to accept job" in done.stderr) == (1, True)
        client.call("cancel", {"filter": {"refs": [[5, None]]}})
        client.call("purge", {"older_than_s": 0})
        for changed, says in (({"array": "0-10"}, "below 10"), ({"script": "#!/bin/sh\n" + "#" * 1024}, "1024 are allowed")):
            with pytest.raises(RefusedError) as caught:
                submit(client, **changed)
            assert says in caught.value.render("sbatch")
        with pytest.raises(RefusedError) as caught:
            submit(client, environ={"A": "x" * 2046})
        assert "2048 are allowed" in caught.value.render("sbatch")
        assert submit(client, environ={"A": "x" * 2045})
    assert json.loads(instance.out("squeue", "--json"))["jobs"]
