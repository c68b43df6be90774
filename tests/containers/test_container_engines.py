"""Jobs in containers by the other real engines: a docker whose daemon is root, and podman for an account that is not."""

import json

import pytest

import bed as beds
from bed import rootfs
from bed.gpus import FakeNvidia

CONFIG = "keepalive_interval: 1s\nkeepalive_count: 2\nreconcile_interval: 5s\nkill_wait: 1s\n"
PATIENCE_S = beds.BOX_PATIENCE_S
DEAF = "trap '' TERM; (trap '' TERM HUP; sleep 600) & echo up; while :; do sleep 0.2; done"
ENGINES = ("docker", "rootless")


def give_gpus(box):
    """Two cards that are not there: what nvidia-smi says is all that sshq asks."""
    directory = box.host.path("/opt/nvidia")
    directory.mkdir(parents=True)
    tool = FakeNvidia(directory)
    tool.gpus("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB")
    text = tool.path.read_text().replace(str(tool.state), "/opt/nvidia/nvidia-smi.state")
    rootfs.write_file(str(box.host.path("/")), "/usr/local/bin/nvidia-smi", text, 0o755)
    box.host.sh("chmod -R a+rwX /opt/nvidia")
    return tool


def make_lab(bed, name, engine):
    """Yield a host with an engine, in an sshq of its own."""
    reason = beds.why_no_engine(engine)
    if reason:
        pytest.skip(reason)
    box = beds.BoxHost(bed, name, engine)
    box.import_image(beds.BOX_IMAGE, "ENV PATH=/bin", "ENV FROM_IMAGE=image")
    gpus = give_gpus(box)
    try:
        with beds.Instance() as instance:
            instance.use([box.host], sshq_slots=5, sshq_container=box.tool)
            instance.write_config(CONFIG)
            instance.up()
            instance.ready(timeout_s=PATIENCE_S)
            made = beds.BoxLab(box, instance)
            made.gpus = gpus
            yield made
    finally:
        box.remove()


@pytest.fixture(scope="module", params=ENGINES)
def lab(netns_bed, request):
    yield from make_lab(netns_bed, f"b-{request.param}", request.param)


def test_code_environment_places_and_user_are_the_jobs_own(lab):
    uid = 0 if lab.box.engine == "docker" else 1001
    lab.host.sh(
        f"mkdir -p /srv/out '/srv/a b' && chown {uid} /srv/out && echo data >'/srv/a b/c:d' && echo words >/srv/in && chmod 644 /srv/in"
    )
    script = (
        'echo "$0|$PWD|$FROM_IMAGE|$PATH|$SLURM_JOB_ID|$SLURMD_NODENAME|$(id -u)"; printf "%s\\n" "$ODD"; cat /mnt/w; cat; '
        "echo x 2>/dev/null >/mnt/w || echo read-only; echo two >&2; umask; echo made >made; echo new >/srv/out/new; exit 7"
    )
    odd = "one\ntwo 'three' \"four\" $HOME \\ `x` \t end"
    words = ("--container-mounts=/srv/out,/srv/in:/mnt/w:ro", "-i", "/srv/in", "--wrap", script)
    job = lab.submit_with({"ODD": odd, "FROM_IMAGE": "the submitter's", "LD_LIBRARY_PATH": "/no"}, *words)
    placed = lab.submit(
        "pwd; cat /mnt/*",
        "-D",
        "/srv/out",
        "-o",
        "/srv/out/o %j",
        "--anywhere",
        "--container-workdir=/tmp",
        "--container-mounts=/srv/a b:/mnt",
    )
    lines = lab.finished(job, "FAILED").splitlines()
    assert len(lines) > 7, lines
    zero, where, image, path, number, node, user = lines[0].split("|")
    assert (zero, image, path, number, node, user) == ("/.sshq/script", "image", "/bin", str(job), lab.host.name, str(uid))
    assert where.endswith(".d")
    assert "\n".join(lines[1:3]) == odd
    assert lines[3:] == ["words", "words", "read-only", "two", "0022"]
    assert lab.account(job) == ("FAILED", "7:0")
    assert lab.host.path("/srv/out/new").stat().st_uid == uid
    lab.until(placed, "COMPLETED")
    assert lab.host.read(f"/srv/out/o {placed}") == "/tmp\ndata\n"
    inside = lab.sshq.run("srun", "--container=box:1", "sh", "-c", "echo out; echo err >&2; exit 9")
    assert (inside.returncode, inside.stdout, inside.stderr) == (9, "out\n", "err\n")
    fed = lab.sshq.run("srun", "--container=box:1", "cat", input="not for it")
    assert (fed.returncode, fed.stdout) == (0, "")
    assert fed.stderr == "srun: warning: a container reads no input from here (--input=FILE: a file of its node)\n"
    lab.assert_gone()


RECORDER = """#!/bin/sh
[ "$1" != create ] || printf '%s\\n' "$@" >/tmp/create.argv
exec /usr/bin/{tool} "$@"
"""


def test_gpus_are_asked_for_by_the_flags_of_the_engine_and_its_refusal_is_told(lab):
    tool, first = lab.box.tool, lab.gpus.uuid(0)
    rootfs.write_file(str(lab.host.path("/")), f"/usr/local/bin/{tool}", RECORDER.format(tool=tool), 0o755)
    try:
        script = 'echo "$CUDA_VISIBLE_DEVICES|$GIVEN"'
        refused = lab.submit(script, "--gres=gpu:a100:1")
        said = lab.finished(refused, "FAILED")
        argv = lab.host.read("/tmp/create.argv").splitlines()
        assert lab.account(refused) == ("FAILED", "125:0")
        if tool == "docker":
            assert argv[argv.index("--gpus") + 1] == f'"device={first}"'
            assert "docker cannot start the container: Error response from daemon: could not select device driver" in said
            assert "hint: sudo nvidia-ctk runtime configure" in said
            return
        assert argv[argv.index("--device") + 1] == f"nvidia.com/gpu={first}"
        assert "podman cannot start the container: " in said
        assert f"unresolvable CDI devices nvidia.com/gpu={first}" in said
        assert "hint: sudo nvidia-ctk cdi generate" in said
        devices = [{"name": lab.gpus.uuid(n), "containerEdits": {"env": [f"GIVEN={n}"]}} for n in range(2)]
        text = json.dumps({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices, "containerEdits": {}})
        rootfs.write_file(str(lab.host.path("/")), "/etc/cdi/nvidia.json", text)
        assert lab.finished(lab.submit(script, "--gres=gpu:a100:1"), "COMPLETED") == "0|0\n"
    finally:
        lab.host.path(f"/usr/local/bin/{tool}").unlink()


def test_a_death_by_a_signal_is_told_from_a_code(lab):
    lab.assert_ends()


@pytest.mark.parametrize("lab", ["docker"], indirect=True)
def test_what_is_killed_for_memory_is_out_of_memory(lab):
    lab.until(lab.submit("true"), "COMPLETED")
    lab.box.limit_memory(64)
    try:
        killed = lab.submit("exec dd if=/dev/zero of=/dev/null bs=256M count=1")
        lab.finished(killed, "OUT_OF_MEMORY")
        assert lab.account(killed) == ("OUT_OF_MEMORY", "0:125")
        survived = lab.submit(
            "dd if=/dev/zero of=/dev/null bs=256M count=1; exit 137"
        )  # one of it was killed, and it said a code
        lab.finished(survived, "FAILED")
        assert lab.account(survived) == ("FAILED", "137:0")
    finally:
        lab.box.limit_memory(None)


def test_what_does_not_listen_is_ended_with_and_without_its_supervisor(lab):
    orphan, cancelled = lab.submit(DEAF), lab.submit(DEAF)
    for job in (orphan, cancelled):
        lab.until_said(job, "up")
    lab.host.sh("kill -9 " + " ".join(map(str, lab.box.pids_of("sup"))), check=False)
    watched, forgotten = lab.submit(DEAF), lab.submit("(trap '' TERM HUP; sleep 601) & echo up")
    lab.until_said(watched, "up")
    assert lab.finished(forgotten, "COMPLETED") == "up\n"
    assert lab.sshq.state(orphan) == "RUNNING"
    lab.sshq.out("scancel", str(cancelled), str(watched))
    for job in (cancelled, watched):
        lab.until(job, "CANCELLED")
    assert len(lab.box.containers().splitlines()) == 1
    lab.host.sh("kill -9 " + " ".join(map(str, lab.box.pids_of("run"))), check=False)
    lab.until(orphan, "NODE_FAIL")
    lab.assert_gone()


@pytest.mark.parametrize("lab", ["docker"], indirect=True)
def test_a_daemon_that_is_killed_costs_no_job_its_end_and_one_that_ends_jobs_no_lie(lab):
    lab.host.sh("mkdir -p /srv/daemon")
    script = "echo up; until [ -e /tmp/go ]; do sleep 0.1; done; exit 4"
    kept = lab.submit(script, "--container-mounts=/srv/daemon:/tmp")
    lab.until_said(kept, "up")
    lab.box.signal_daemon("KILL")
    lab.box.start_daemon()
    assert lab.sshq.state(kept) == "RUNNING"
    lab.host.sh("touch /srv/daemon/go")
    assert lab.finished(kept, "FAILED") == "up\n"
    assert lab.account(kept) == ("FAILED", "4:0")
    lab.host.sh("rm /srv/daemon/go")
    ended = lab.submit(script, "--container-mounts=/srv/daemon:/tmp")
    lab.until_said(ended, "up")
    lab.box.signal_daemon("KILL")
    lab.box.start_daemon(live_restore=False)  # which ends what it finds
    assert lab.finished(ended, "FAILED") == "up\n"
    assert lab.account(ended) == ("FAILED", "0:9")
    lab.assert_gone()


@pytest.mark.parametrize("lab", ["docker"], indirect=True)
def test_a_daemon_that_hangs_holds_no_job_for_ever_and_the_host_is_drained_until_it_answers(lab):
    lab.host.sh("mkdir -p /srv/hang")
    ending = lab.submit("echo up; until [ -e /tmp/go ]; do sleep 0.1; done; exit 5", "--container-mounts=/srv/hang:/tmp")
    deaf = lab.submit(DEAF)
    for job in (ending, deaf):
        lab.until_said(job, "up")
    lab.box.signal_daemon("STOP")
    try:
        late = lab.submit("echo never")
        lab.sshq.until_state(late, "RUNNING")  # before the host is drained
        lab.host.sh("touch /srv/hang/go")
        lab.sshq.out("scancel", str(deaf))
        said = lab.finished(late, "FAILED")
        assert said.startswith(f"sshq: error: {lab.host.name}: docker does not answer\n    hint: docker info, there")
        assert lab.account(late) == ("FAILED", "125:0")
        lab.sshq.until_state(deaf, "CANCELLED", timeout_s=60)
        lab.sshq.until_state(ending, "FAILED", timeout_s=60)
        assert lab.account(ending) == ("FAILED", "5:0")
        assert not lab.living()  # what it left is a name in docker's books, which nobody can ask about
        assert "does not say that its container is gone, and is asked again" in lab.sshq.out("why", str(deaf))
        assert "Kill task failed" in lab.sshq.out("sinfo", "-R")
    finally:
        lab.box.signal_daemon("CONT")
    lab.assert_gone()
    lab.sshq.out("scontrol", "update", f"nodename={lab.host.name}", "state=resume")


def test_after_a_reboot_the_container_is_removed_and_the_job_runs_again(lab):
    lab.host.sh("mkdir -p -m 777 /srv/go && chmod 777 /srv/go")
    again = lab.submit("echo up; until [ -e /tmp/go ]; do sleep 0.1; done", "--container-mounts=/srv/go:/tmp")
    lab.until_said(again, "up")
    lab.host.power_off()
    lab.host.power_on()
    lab.box.mount()
    lab.host.sh("touch /srv/go/go")
    lab.until(again, "COMPLETED")
    rows = lab.sshq.out("sacct", "-n", "-P", "-X", "-D", "-o", "state", "-j", str(again)).split()
    assert (len(rows), rows[-1]) == (2, "COMPLETED")
    lab.assert_gone()
