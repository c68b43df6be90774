"""#SSHQ lines: read by the rules of #SBATCH, comments to Slurm, and stronger than its lines; options that are repeated."""

import pytest

from sshq.api.words import format_options
from sshq.errors import OptionError
from sshq.slurm.submit import build_submission

NOW = 1_800_000_000.0


def submit(*argv, script="", environ=None):
    def read(path):
        if path == "/sub/here/s.sh":
            return script.encode()
        raise FileNotFoundError(2, "No such file or directory", path)

    return build_submission(
        argv, environ or {}, read_file=read, read_stdin=script.encode, now=NOW, umask=0o22, cwd="/sub/here"
    )


def test_what_is_said_to_sshq_alone_is_stronger_than_what_slurm_reads_too_wherever_it_stands():
    script = "#!/bin/sh\n#SSHQ --time=5 --retries=2\n#SBATCH --time=10 -J both\n#SSHQ --lease=2h\ntrue\n#SSHQ --time=99\n"
    described = submit("s.sh", script=script).description
    assert (described["time_limit_s"], described["retries"], described["lease_s"], described["name"]) == (300, 2, 7200, "both")
    assert submit("--time=7", "s.sh", script=script).description["time_limit_s"] == 420
    assert submit("s.sh", script=script, environ={"SBATCH_TIMELIMIT": "8"}).description["time_limit_s"] == 480


def test_a_script_on_standard_input_has_them_too():
    described = submit(script="#!/bin/sh\n#SSHQ --stage-out 'my out/*.csv' --anywhere\n").description
    assert (described["stage_out"], described["anywhere"]) == (["my out/*.csv"], True)


@pytest.mark.parametrize("line", ["##SSHQ --retries=x", " #SSHQ --retries=x", "#sshq --retries=x", "#SSHQX --retries=x", "#SSHQ #--foo"])
def test_what_is_no_line_of_ours_is_a_comment(line):
    assert submit("s.sh", script=f"#!/bin/sh\n{line}\n").description["retries"] == 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#SSHQ --retires=2", ["sbatch: unrecognized option '--retires=2'", "s.sh:3: #SSHQ --retires=2", "did you mean --retries?"]),
        ("#SSHQ --retries=many", ["s.sh:3: #SSHQ --retries=many"]),
        ("#SSHQ --stage-out", ["option '--stage-out' requires an argument", "s.sh:3: #SSHQ --stage-out"]),
        ("#SSHQ --stage-out=../x", ["Invalid --stage-out specification", "s.sh:3: ", "'../x': `..` leads out of the job's directory"]),
        ("#SSHQ --stage-out=/etc", ["'/etc': it is absolute"]),
        ("#SSHQ --stage-out 'a**/b'", ["`**` is not known"]),
        ("#SSHQ --stage-out ''", ["it is empty"]),
        ("#SSHQ --wrap=x", ["--wrap comes too late in a script"]),
        ("#SSHQ --retries 2 more", ["s.sh:3: #SSHQ --retries 2 more", "Invalid directive found in batch script: more"]),
        ("#SSHQ --comment='x", ["s.sh: line 3", "Unmatched `'`"]),
    ],
)
def test_an_error_names_script_and_line(line, expected):
    with pytest.raises(OptionError) as caught:
        submit("s.sh", script=f"#!/bin/sh\n\n{line}\ntrue\n")
    rendered = caught.value.render("sbatch")
    for part in expected:
        assert part in rendered
    assert "Traceback" not in rendered


def test_an_option_that_is_repeated_adds_up_and_a_stronger_place_replaces_all_of_it():
    script = "#!/bin/sh\n#SSHQ --stage-out a.txt --stage-out ./b//\n#SBATCH --time=3\n#SSHQ --stage-out=c/*.csv\n"
    assert submit("s.sh", script=script).description["stage_out"] == ["a.txt", "b/", "c/*.csv"]
    assert submit("--stage-out", "x", "--stage-out=y", "s.sh", script=script).description["stage_out"] == ["x", "y"]
    assert submit("s.sh", script="#!/bin/sh\n").description["stage_out"] == []


def test_python_gives_a_list():
    assert format_options({"stage_out": ["a", "b/"], "partition": ["x", "y"]}) == [
        "--stage-out=a", "--stage-out=b/", "--partition=x,y",
    ]  # fmt: skip
