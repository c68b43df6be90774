"""`sshq submit`: many scripts at once, all or none, against a real controller whose partition is down."""

import re

import pytest

from bed.session import wait_until

HELD = "#!/bin/sh\n#SBATCH --hold\n"


@pytest.fixture
def queue(instance, loopback):
    instance.use(loopback.hosts[:1])
    instance.up()
    instance.ready()

    def write(name: str, text: str) -> str:
        with open(f"{instance.work}/{name}", "w") as file:
            file.write(text)
        return name

    instance.write = write
    return instance


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"Submitted batch job (\d+)\n", text)]


def test_scripts_get_numbers_in_their_order_and_keep_what_they_say(queue):
    queue.write("a.sh", HELD + "#SBATCH -t 10 -J first\n")
    queue.write("b.sh", HELD + "# 2\n")
    queue.write("c.sh", HELD + "#SBATCH --array=1-3\n")
    queue.write("list", "b.sh\n\n./a.sh\n")
    queue.write("commands", "echo one\n\n  # not this\necho two | cat\n")
    done = queue.run("submit", "-p", "lab", "a.sh", "b.sh", "c.sh", "--files-from", "list", "--commands-from", "commands", "--hold",
                     "--comment", "x y")  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    assert numbers(done.stdout) == [1, 2, 3, 4, 5, 6, 7]
    rows = queue.run("squeue", "-h", "-o", "%A|%j|%l|%k|%o", "--sort=A").stdout.splitlines()
    work = queue.work
    assert rows == [
        f"1|first|10:00|x y|{work}/a.sh", f"2|b.sh|UNLIMITED|x y|{work}/b.sh", f"3|c.sh|UNLIMITED|x y|{work}/c.sh",
        f"4|b.sh|UNLIMITED|x y|{work}/b.sh", f"5|first|10:00|x y|{work}/a.sh", "6|wrap|UNLIMITED|x y|(null)", "7|wrap|UNLIMITED|x y|(null)",
    ]  # fmt: skip
    assert queue.run("scontrol", "write", "batch_script", "7", "-").stdout.endswith("\necho two | cat\n")
    said = queue.run("sacct", "-X", "-n", "-P", "-o", "SubmitLine", "-j", "1,7").stdout.splitlines()
    assert said == [
        "sshq submit --partition=lab --hold --comment=x y a.sh", "sshq submit --partition=lab --hold --comment=x y commands:4",
    ]  # fmt: skip
    assert queue.run("squeue", "-h", "-r", "-j", "3").stdout.count("\n") == 3


def test_one_that_cannot_be_right_stops_all_and_each_is_named(queue):
    queue.write("good.sh", HELD)
    queue.write("time.sh", "#!/bin/sh\n\n#SBATCH -t 1h\n")
    queue.write("where.sh", "#!/bin/sh\n#SBATCH -p nowhere\n")
    queue.write("also.sh", "#!/bin/sh\n#\n#SBATCH -p nowhere\n")
    done = queue.run("submit", "good.sh", "time.sh", "none.sh", "good.sh", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "sshq submit: error: Invalid --time specification\n"
        "    time.sh:3: #SBATCH -t 1h\n"
        "    Times are minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS.\n"
        "    hint: --time=1:00:00\n"
        "sshq submit: error: Unable to open file none.sh\n"
        "sshq submit: error: 2 of 4 cannot be submitted: none was\n"
    )
    done = queue.run("submit", "good.sh", "where.sh", "also.sh", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "    where.sh:2: #SBATCH -p nowhere\n" in done.stderr and "    also.sh:3: #SBATCH -p nowhere\n" in done.stderr
    assert done.stderr.endswith("sshq submit: error: 2 of 3 cannot be submitted: none was\n")
    assert queue.run("squeue", "-h").stdout == ""
    assert queue.run("submit", "--parsable", "good.sh").stdout == "1\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no script is named"),
        (["--tome=1", "x"], "unrecognized option '--tome=1'"),
        (["-t", "1h", "x"], "Invalid --time specification"),
        (["-", "--files-from", "-"], "standard input can be read once only"),
        (["--wrap", "true"], "unrecognized option '--wrap'"),
    ],
)
def test_a_command_line_that_cannot_be_right_is_status_2(sshq, words, said):
    done = sshq("submit", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_more_than_a_batch_may_have_is_refused_before_anything_is_submitted(queue):
    queue.write("commands", "true\n" * 10_001)
    done = queue.run("submit", "-H", "--commands-from", "commands", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "more than 10000 at once" in done.stderr and "xargs -n 10000" in done.stderr
    assert queue.run("squeue", "-h").stdout == ""
    queue.write("commands", "true\n" * 10_000)
    assert numbers(queue.run("submit", "-H", "--commands-from", "commands").stdout) == list(range(1, 10_001))


def test_wait_stays_until_all_are_over_and_ends_as_the_worst(queue):
    queue.write("commands", "exit 0\nexit 3\nexit 1\n")
    done = queue.run("submit", "--wait", "-o", "/dev/null", "--commands-from", "commands", check=False)
    assert (numbers(done.stdout), done.returncode) == ([1, 2, 3], 3)
    wait_until(lambda: queue.run("squeue", "-h").stdout == "", 10)
