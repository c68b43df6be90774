"""Jobs in containers, by a real podman on a real host: they behave as scripts do, and are proved gone whatever ends them."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest

import bed as beds
from sshq.store.records import seal, unseal

CONFIG = "keepalive_interval: 1s\nkeepalive_count: 2\nreconcile_interval: 5s\nkill_wait: 1s\n"
IMAGE = beds.BOX_IMAGE
PATIENCE_S = beds.BOX_PATIENCE_S
DEAF = "trap '' TERM; (trap '' TERM HUP; sleep 600) & echo up; while :; do sleep 0.2; done"


@pytest.fixture(scope="module")
def lab(netns_bed):
    reason = beds.why_no_engine()
    if reason:
        pytest.skip(reason)
    box = beds.BoxHost(netns_bed, "b1")
    box.unpack_image("/images/box")
    box.import_image(IMAGE, "ENV PATH=/bin", "ENV FROM_IMAGE=image")
    plain = netns_bed.add(1, names=["plain"])[0]
    try:
        with beds.Instance() as instance:
            instance.use([box.host, plain], sshq_slots=4, host_vars={"plain": {"sshq_weight": 1}, "b1": {"sshq_weight": 100}})
            instance.write_config(CONFIG)
            instance.up()
            instance.ready(timeout_s=PATIENCE_S)
            yield beds.BoxLab(box, instance)
    finally:
        netns_bed.remove([box.host, plain])


def test_a_job_has_its_directory_its_environment_and_its_own_user_and_gives_back_its_code(lab):
    script = (
        'echo "$0|$PWD|$FROM_IMAGE|$PATH|$HOME|$SLURM_JOB_ID|$SLURMD_NODENAME"; printf "%s\\n" "$ODD"; id -u; cat; '
        'umask; hostname; echo two >&2; echo made >made; stat -c "%u %g" made; [ "$PWD" = "$(pwd)" ] && exit 7'
    )
    odd = "one\ntwo 'three' \"four\" $HOME \\ `x` \t end"
    job = lab.submit_with({"ODD": odd, "FROM_IMAGE": "the submitter's", "LD_LIBRARY_PATH": "/no"}, "--wrap", script)
    lines = lab.finished(job, "FAILED").splitlines()
    assert len(lines) > 7, lines
    zero, where, image, path, home, number, node = lines[0].split("|")
    assert (zero, image, path, home, number, node) == ("/.sshq/script", "image", "/bin", "/root", str(job), "b1")
    assert where.endswith(".d")
    assert "\n".join(lines[1:3]) == odd
    assert lines[3:] == ["0", "0022", "b1", "two", "0 0"]
    assert lab.account(job) == ("FAILED", "7:0")
    assert lab.sshq.out("squeue", "-h", "-t", "all", "-o", "%i", "--type=container").split() == [str(job)]
    assert lab.sshq.out("squeue", "-h", "-t", "all", "-o", "%i", "--type=script") == ""
    lab.assert_gone()


def test_files_places_and_mounts_are_those_that_are_asked_for(lab):
    lab.host.sh("mkdir -p '/srv/a b'; echo data >'/srv/a b/f,1'; echo words >/srv/in; rm -rf /srv/out; mkdir /srv/out")
    text = (
        "#!/bin/sh\n#SBATCH --container-image=box:1 --container-workdir=/tmp -i /srv/in -o /srv/out/%j.o -e /srv/out/%j.e --anywhere\n"
        "#SBATCH --container-mounts=/srv/out,/srv/in:/etc/words:ro\n"
        'pwd; cat; cat /etc/words; echo e >&2; echo x >/etc/words || echo read-only; echo new >/srv/out/new; echo "$1 $FROM_IMAGE"\n'
    )
    words = ("--container-env=FROM_IMAGE", "-D", "/srv/out", "/dev/stdin", "an  arg")
    job = lab.submit_with({"FROM_IMAGE": "mine"}, *words, input=text)
    lab.until(job, "COMPLETED")
    assert lab.host.read(f"/srv/out/{job}.o").splitlines() == ["/tmp", "words", "words", "read-only", "an  arg mine"]
    assert lab.host.read(f"/srv/out/{job}.e").splitlines()[0] == "e"
    assert lab.host.read("/srv/out/new") == "new\n"
    inside = lab.sshq.run("srun", "-w", "b1", "--container=box:1", "sh", "-c", "echo out; echo err >&2; exit 9")
    assert (inside.returncode, inside.stdout, inside.stderr) == (9, "out\n", "err\n")
    lab.assert_gone()


@pytest.mark.parametrize("name", ["a b", "a,b", "a:b", "q\"u'o$te", "n\u00e4 x"])
def test_directories_of_any_name_are_mounted(lab, name):
    lab.host.path("/srv/odd").mkdir(parents=True, exist_ok=True)
    lab.host.path(f"/srv/odd/{name}").mkdir(exist_ok=True)
    job = lab.submit("pwd; echo here >made", "-D", f"/srv/odd/{name}", "-o", f"/srv/odd/{name}/out %j", "--anywhere")
    lab.until(job, "COMPLETED")
    assert lab.host.read(f"/srv/odd/{name}/out {job}") == f"/srv/odd/{name}\n"
    assert lab.host.read(f"/srv/odd/{name}/made") == "here\n"


def test_a_cancel_reaches_what_does_not_listen_and_leaves_nothing(lab):
    deaf = lab.submit(DEAF)
    polite = lab.submit("trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.1; done")
    for job in (deaf, polite):
        lab.until_said(job, "up")
    assert len(lab.living()) > 4
    lab.sshq.out("scancel", str(deaf), str(polite))
    assert "asked\n" in lab.finished(polite, "CANCELLED")
    lab.until(deaf, "CANCELLED")
    lab.assert_gone()


@pytest.mark.slow  # a limit is a whole minute
def test_a_limit_reaches_what_does_not_listen_with_and_without_its_supervisor(lab):
    watched = lab.submit(DEAF, "-t", "1")
    lab.until_said(watched, "up")
    lab.host.sh("kill -9 " + " ".join(map(str, lab.box.pids_of("sup"))), check=False)
    limited = lab.submit(DEAF, "-t", "1")
    lab.sshq.until_state(limited, "TIMEOUT", timeout_s=100)
    lab.sshq.until_state(watched, "NODE_FAIL", "TIMEOUT", timeout_s=60)
    lab.assert_gone()


def test_signals_reach_the_script_alone_or_all_of_it_and_a_suspended_one_stands_still(lab):
    lab.host.sh("mkdir /srv/sig")
    counting = "trap 'echo usr1' USR1; echo up; (trap 'echo child' USR1; until [ -e go ]; do sleep 0.05; done) & until [ -e go ]; do sleep 0.05; done; wait"
    for option, expected in (("-b", ["up", "usr1"]), ("-f", ["child", "up", "usr1"])):
        job = lab.submit(f"cd /tmp; {counting}", "-o", "/srv/sig/signalled", "-D", "/srv/sig", "--anywhere", "--container-mounts=/srv/sig:/tmp")
        lab.sshq.wait_for(lambda: lab.host.exists("/srv/sig/signalled") and "up" in lab.host.read("/srv/sig/signalled"), PATIENCE_S, "up")
        lab.sshq.out("scancel", option, "-s", "USR1", str(job))
        lab.sshq.wait_for(lambda n=len(expected): lab.host.read("/srv/sig/signalled").count("\n") >= n, PATIENCE_S, "signalled")
        lab.host.sh("touch /srv/sig/go")
        lab.until(job, "COMPLETED")
        said = [line for line in lab.host.read("/srv/sig/signalled").splitlines() if "signal" not in line]
        assert sorted(said) == expected
        lab.host.sh("rm /srv/sig/go /srv/sig/signalled")
    job = lab.submit("i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.02; done", "--container-mounts=/srv/sig:/tmp")

    def count() -> int:
        text = lab.host.read("/srv/sig/n").strip() if lab.host.exists("/srv/sig/n") else ""
        return int(text or 0)

    lab.sshq.wait_for(count, PATIENCE_S, "it counts")
    lab.sshq.out("scontrol", "suspend", str(job))
    lab.until(job, "SUSPENDED")
    stopped = [pid for pid in lab.living() if "T (stopped)" in lab.host.sh(f"grep State /proc/{pid}/status", check=False).stdout]
    assert len(stopped) >= 3  # its process here, pid 1 of the container, and the script
    seen = count()
    lab.sshq.out("scontrol", "resume", str(job))
    lab.sshq.wait_for(lambda: count() > seen, PATIENCE_S, "it goes on")
    lab.sshq.out("scancel", str(job))
    lab.until(job, "CANCELLED")
    lab.assert_gone()


def test_a_death_by_a_signal_is_told_from_a_code(lab):
    lab.assert_ends()


def test_children_that_are_left_behind_go_with_the_container(lab):
    job = lab.submit("(trap '' TERM HUP; sleep 601) & echo up")
    assert lab.finished(job, "COMPLETED") == "up\n"
    lab.assert_gone()


def test_a_dead_controller_finds_its_container_job_again(lab):
    job = lab.submit("echo up; until [ -e /tmp/go ]; do sleep 0.1; done; exit 4", "--container-mounts=/srv:/tmp")
    lab.until_said(job, "up")
    lab.sshq.kill9()
    lab.sshq.up()
    lab.sshq.ready(timeout_s=PATIENCE_S)
    assert lab.sshq.state(job) == "RUNNING"
    lab.host.sh("touch /srv/go")
    assert lab.finished(job, "FAILED") == "up\n"
    assert lab.account(job) == ("FAILED", "4:0")
    lab.host.sh("rm /srv/go")
    lab.assert_gone()


def test_with_its_supervisor_dead_a_job_goes_on_and_can_be_cancelled(lab):
    job = lab.submit(DEAF)
    lab.until_said(job, "up")
    lab.host.sh("kill -9 " + " ".join(map(str, lab.box.pids_of("sup"))), check=False)
    assert lab.sshq.state(job) == "RUNNING"
    lab.sshq.out("scancel", str(job))
    lab.until(job, "CANCELLED")
    lab.assert_gone()


def test_with_supervisor_and_process_dead_the_container_counts_as_alive_until_it_is_gone(lab):
    job = lab.submit(DEAF)
    lab.until_said(job, "up")
    pids = " ".join(map(str, (*lab.box.pids_of("sup"), *lab.box.pids_of("run"))))
    lab.host.sh("mv /usr/bin/podman /usr/bin/podman.away")  # nobody can ask it
    try:
        lab.host.sh(f"kill -9 {pids}", check=False)
        asked = time.monotonic()
        lab.sshq.wait_for(lambda: time.monotonic() > asked + 5, PATIENCE_S, "two listings")
        assert lab.sshq.state(job) == "RUNNING"
        assert lab.living()
    finally:
        lab.host.sh("mv /usr/bin/podman.away /usr/bin/podman")
    lab.until(job, "NODE_FAIL")
    lab.assert_gone()


def test_what_cannot_start_says_why_and_leaves_nothing(lab):
    absent = lab.sshq.submit("--container=nosuch:7", "--wrap", "true")
    said = lab.finished(absent, "FAILED")
    assert said == (
        "sshq: error: b1: podman there has no image nosuch:7, and --container-pull=never\n"
        "    hint: podman pull nosuch:7 there, or sbatch --container-pull=missing\n"
    )
    assert lab.account(absent) == ("FAILED", "125:0")
    pulled = lab.sshq.submit("--container=localhost:1/nosuch:7", "--container-pull=missing", "--wrap", "true")
    assert "podman cannot pull the image localhost:1/nosuch:7 (--container-pull=missing): " in lab.finished(pulled, "FAILED")
    unshaped = lab.sshq.submit(f"--container={IMAGE}", "/dev/stdin", input="#!/opt/no/shell\necho hi\n")
    assert "bad interpreter(/opt/no/shell): No such file or directory in the image box:1" in lab.finished(unshaped, "FAILED")
    unmounted = lab.submit("true", "--container-mounts=/nowhere:/x")
    assert "b1: /nowhere cannot be mounted in a container: no such file or directory" in lab.finished(unmounted, "FAILED")
    lab.host.sh("mount -t tmpfs -o size=16k,ro none /var/lib/boxes")
    try:
        full = lab.submit("true")
        assert "sshq: error: b1: podman " in lab.finished(full, "FAILED")
    finally:
        lab.host.sh("umount /var/lib/boxes")
    lab.assert_gone()


def test_hosts_without_an_engine_are_not_asked(lab):
    refused = lab.sshq.run("sbatch", f"--container={IMAGE}", "-w", "plain", "--wrap", "true")
    assert refused.returncode == 1
    assert "plain  no podman, apptainer, singularity or docker that its account could use" in refused.stderr
    refused = lab.sshq.run("sbatch", "--container=/images/lab.sif", "-w", "plain", "--wrap", "true")
    assert "neither apptainer nor singularity there, which run images that are files" in refused.stderr
    array = lab.submit("echo task $SLURM_ARRAY_TASK_ID", "--array=1-3")
    for task in (1, 2, 3):
        assert lab.finished(f"{array}_{task}", "COMPLETED") == f"task {task}\n"
    lab.assert_gone()


def test_after_a_reboot_the_container_is_removed_and_the_job_runs_again(lab):
    again = lab.submit("echo up; until [ -e /tmp/go ]; do sleep 0.1; done", "--container-mounts=/srv:/tmp")
    lab.until_said(again, "up")
    assert lab.box.containers()
    lab.host.power_off()
    lab.host.power_on()
    lab.box.mount()
    lab.host.sh("touch /srv/go")
    lab.until(again, "COMPLETED")
    rows = lab.sshq.out("sacct", "-n", "-P", "-X", "-D", "-o", "state", "-j", str(again)).split()
    assert len(rows) == 2, rows
    assert rows[1] == "COMPLETED"
    lab.host.sh("rm /srv/go")
    lab.assert_gone()


def test_an_image_that_is_a_directory_runs_by_apptainer(lab):
    """By its stand-in: a real mount namespace and root, real processes; only the tool itself is not the real one."""
    text = '#!/bin/sh\n#SBATCH --container=/images/box\necho "$PWD|$SLURM_JOB_ID|$ODD"; echo made >made; ls /; echo err >&2; exit 5\n'
    job = lab.submit_with({"ODD": "one\n'two'"}, "/dev/stdin", input=text, image=None)
    lines = lab.finished(job, "FAILED").splitlines()
    assert lines[0].count("|") == 2, lines
    where, number, odd = lines[0].split("|")
    assert (where.endswith(".d"), number, odd, lines[1]) == (True, str(job), "one", "'two'")
    assert "home" not in lines
    assert "err" in lines
    assert lab.account(job) == ("FAILED", "5:0")
    deaf = lab.sshq.submit("--container=/images/box", "--wrap", DEAF)
    lab.until_said(deaf, "up")
    lab.sshq.out("scancel", str(deaf))
    lab.until(deaf, "CANCELLED")
    lab.assert_gone()


def test_a_lost_store_is_rebuilt_with_the_script_as_it_was_submitted(lab):
    """One job runs, and beside it lies a copy that was claimed and never started, as a power cut can leave it."""
    script = "#!/bin/sh\necho \"$ODD|it's\"; until [ -e /tmp/rebuilt ]; do sleep 0.1; done\n"
    job = lab.submit_with({"ODD": "one\n'two'"}, "--container-mounts=/srv:/tmp", "/dev/stdin", input=script)
    lab.until_said(job, "two")
    (spool,) = lab.host.sh("ls -d /root/.local/state/sshq/spool/*/a").stdout.split()
    (old,) = (name.removesuffix(".box") for name in lab.host.sh(f"cd {spool} && ls *.box").stdout.split())
    lab.sshq.kill9()
    shutil.rmtree(f"{lab.sshq.sshq_home}/state")
    Path(lab.sshq.sshq_home, "sock").unlink(missing_ok=True)
    copied, fresh = job + 7, f"{job:032x}"
    folder = lab.host.path(spool)
    head, about, rest = (folder / f"{old}.req").read_bytes().split(b"\n", 2)
    head = re.sub(rb"^# 1 (\d+) \d+ 1", lambda found: b"# 1 %d %d 1" % (int(found[1]) + 1, copied), head)
    told = unseal(about.decode().removeprefix("# about ")).replace(f'"job_id":{job},"spec_id":{job}', f'"job_id":{copied},"spec_id":{copied}')
    (folder / f"{fresh}.req").write_bytes(b"\n".join([head, b"# about " + seal(told).encode(), rest]))
    shutil.copy(folder / f"{old}.script", folder / f"{fresh}.script")
    (folder / f"{fresh}.env").write_bytes(b"SSHQ_WHOLE=1\n")
    (folder / f"{fresh}.exit").write_bytes(b" " * 1023 + b"\n")

    def rebuild() -> bool:  # once the runner of the killed controller has seen its end
        done = lab.sshq.run("rebuild", "--yes", timeout_s=60)
        assert done.returncode == 0 or "may be alive" in done.stderr, done
        return done.returncode == 0

    lab.sshq.wait_for(rebuild, PATIENCE_S, "rebuilt")
    lab.sshq.up()
    lab.sshq.ready(timeout_s=PATIENCE_S)
    lab.until(job, "RUNNING")
    for number in (job, copied):
        assert lab.sshq.out("scontrol", "write", "batch_script", str(number), "-") == script
    lab.host.sh("touch /srv/rebuilt")
    lab.until(job, "COMPLETED")
    lab.until(copied, "PENDING")
    lab.sshq.out("scontrol", "release", str(copied))
    assert lab.finished(copied, "COMPLETED") == "one\n'two'|it's\n"
    lab.assert_gone()


def test_the_image_that_ran_is_told_by_its_content(lab):
    name = lab.host.sh(f"podman image inspect --format '{{{{.Id}}}}' {IMAGE}").stdout.strip()
    job = lab.submit("true")
    lab.finished(job, "COMPLETED")
    told = json.loads(lab.sshq.out("show", str(job), "--provenance", "--json"))["provenance"]
    assert [launch["image"] for launch in told["launches"]] == [name]
    assert f", image {name[:12]}\n" in lab.sshq.out("show", str(job), "--provenance")
