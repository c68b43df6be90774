"""What sbatch refuses: Slurm's first lines and exit codes, the place, and what follows."""

import shlex

import pytest

from sshq.errors import OptionError
from sshq.slurm.submit import build_submission

from .recordings import NOW, load

RECORDED = load("sbatch")
FILES = {
    "noshebang.sh": b"echo no shebang\n",
    "crlf.sh": b"#!/bin/bash\r\necho hi\r\n",
    "empty.sh": b"",
    "bin.sh": b"#!/bin/sh\necho a\0b\n",
    "blank.sh": b"   \n\n",
    "baddir.sh": b"#!/bin/sh\n#SBATCH --no-such-option=1\ntrue\n",
    "ok.sh": b"#!/bin/sh\ntrue\n",
}


def read_file(path):
    name = path.rpartition("/")[2]
    if name == "adir":
        raise IsADirectoryError(path)
    if not path.startswith("/sub/") or name not in FILES:
        raise FileNotFoundError(path)
    return FILES[name]


def submit(*argv, environ=None, files=None, stdin=b""):
    def read(path):
        return (files or {}).get(path.rpartition("/")[2]) or read_file(path)

    return build_submission(argv, environ or {}, read_file=read, read_stdin=lambda: stdin, now=NOW, umask=0o22, cwd="/sub/here")


def words_of(entry):
    command = entry["cmd"].split(";")[1 if entry["cmd"].startswith("mkdir") else 0].split(">")[0].split("<")[0]
    return shlex.split(command)[1:]


@pytest.mark.parametrize("name", [name for name in RECORDED if name.startswith(("err-", "mem-"))])
def test_refuses_as_slurm_does(name):
    entry = RECORDED[name]
    with pytest.raises(OptionError) as caught:
        submit(*words_of(entry))
    rendered = caught.value.render("sbatch")
    assert rendered.startswith(entry["stderr"])
    assert caught.value.exit_code == entry["exit"]
    assert all(line.startswith("    ") for line in rendered[len(entry["stderr"]) :].splitlines())


def test_a_bad_value_names_its_place_and_a_way_out():
    with pytest.raises(OptionError) as caught:
        submit("--time=1h", "--wrap", "true")
    assert caught.value.render("sbatch") == (
        "sbatch: error: Invalid --time specification\n"
        "    --time=1h\n"
        "    Times are minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS.\n"
        "    hint: --time=1:00:00\n"
    )


@pytest.mark.parametrize(
    ("argv", "environ", "source", "text"),
    [
        (["-t", "abc", "ok.sh"], {}, "--time", "-t abc"),
        (["--time", "abc", "ok.sh"], {}, "--time", "--time=abc"),
        (["ok.sh"], {"SBATCH_TIMELIMIT": "abc"}, "SBATCH_TIMELIMIT", "SBATCH_TIMELIMIT=abc"),
        (["place.sh"], {}, "place.sh:3", "place.sh:3: #SBATCH -n 2 --time abc"),
    ],
)
def test_every_source_of_a_bad_value_is_named(argv, environ, source, text):
    script = b"#!/bin/sh\n\n#SBATCH -n 2 --time abc\ntrue\n"
    with pytest.raises(OptionError) as caught:
        submit(*argv, environ=environ, files={"place.sh": script})
    assert caught.value.source == source
    assert caught.value.detail[0] == text
    assert caught.value.exit_code == 255


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--reboot"], "--reboot is not supported by sshq, and leaving it out would change what the job meets"),
        (["--uid=anna"], "--uid is not supported by sshq, and leaving it out would change whose rights the job has"),
        (["-N1", ":"], "heterogeneous jobs are not supported by sshq, and running one component would change what runs"),
    ],
)
def test_what_would_change_the_job_is_refused_by_name(argv, text):
    with pytest.raises(OptionError) as caught:
        submit(*argv, "ok.sh")
    assert caught.value.message.startswith(text)
    assert caught.value.exit_code == 1
    assert caught.value.hint


def test_asking_for_no_gpu_asks_for_none():
    described = submit("--gres=none", "--gpus=0", "ok.sh").description
    assert (described["gpus_per_node"], described["gpus_total"], described["gpus_by_gres"]) == (None, None, False)


@pytest.mark.parametrize(
    ("argv", "environ", "described"),
    [
        (["--gres=gpu:2"], {}, {"gpus_per_node": "2", "gpus_by_gres": True}),
        (["--gres", "gpu:A100:2"], {}, {"gpus_per_node": "a100:2", "gpus_by_gres": True}),
        (["--gpus-per-node=a100:2"], {"SBATCH_GRES": "gpu:1"}, {"gpus_per_node": "a100:2", "gpus_by_gres": False}),
        (["-G2"], {}, {"gpus_total": "2"}),
        (["--gpus-per-task=1", "--ntasks-per-gpu=2"], {}, {"gpus_per_task": "1", "ntasks_per_gpu": 2}),
        (["--cpus-per-gpu=4", "--mem-per-gpu=2G"], {}, {"cpus_per_gpu": 4, "memory_per_gpu_mib": 2048}),
        ([], {"SBATCH_GPUS": "v100:3", "SBATCH_CPUS_PER_GPU": "2"}, {"gpus_total": "v100:3", "cpus_per_gpu": 2}),
        (["--gres=none"], {"SBATCH_GRES": "gpu:1"}, {"gpus_per_node": None}),
        (["--mem-per-gpu=1G"], {"SBATCH_MEM_PER_NODE": "5"}, {"memory_per_gpu_mib": 1024, "memory_mib": None}),
    ],
)
def test_gpus_as_they_are_asked_for(argv, environ, described):
    found = submit(*argv, "ok.sh", environ=environ).description
    assert {key: found[key] for key in described} == described


@pytest.mark.parametrize("argv", [["--gres=nosuch:1"], ["--gres=gpu:x:y"], ["--gpus=many:"], ["--gpus-per-node=-1"], ["--gpus-per-task=1.5"]])
def test_another_generic_resource_is_refused_in_slurms_words(argv):
    with pytest.raises(OptionError) as caught:
        submit(*argv, "ok.sh")
    assert caught.value.message == "Invalid generic resource (gres) specification"
    assert caught.value.exit_code == 1


def test_memory_of_the_gpus_and_of_the_node_contradict_each_other():
    with pytest.raises(OptionError, match="mutually exclusive"):
        submit("--mem=1G", "--mem-per-gpu=1G", "ok.sh")


@pytest.mark.parametrize(
    ("argv", "text", "exit_code"),
    [
        (["--tim"], "sbatch: option '--tim' is ambiguous; possibilities: '--time' '--time-min'\n", 255),
        (["--time"], "sbatch: option '--time' requires an argument\n", 255),
        (["-t"], "sbatch: option requires an argument -- 't'\n", 255),
        (["-y"], "sbatch: invalid option -- 'y'\n", 255),
        (["--hold=yes"], "sbatch: option '--hold' doesn't allow an argument\n", 255),
    ],
)
def test_getopt_speaks_as_glibc_does(argv, text, exit_code):
    with pytest.raises(OptionError) as caught:
        submit(*argv)
    assert caught.value.render("sbatch").startswith(text + 'Try "sbatch --help" for more information\n')
    assert caught.value.exit_code == exit_code


def test_a_misspelt_option_gets_a_suggestion():
    with pytest.raises(OptionError) as caught:
        submit("--partiton=x", "ok.sh")
    assert caught.value.hint == "did you mean --partition?"


def test_both_kinds_of_memory_on_one_command_line_contradict():
    with pytest.raises(OptionError, match="mutually exclusive"):
        submit("--mem=1G", "--mem-per-cpu=1G", "ok.sh")


def test_an_open_quote_in_a_directive_is_told_with_its_line():
    with pytest.raises(OptionError) as caught:
        submit("quote.sh", files={"quote.sh": b'#!/bin/sh\n#SBATCH --comment="a\n'})
    assert caught.value.render("sbatch") == 'sbatch: error: quote.sh: line 2: Unmatched `"` in [--comment="a]\n'


@pytest.mark.parametrize("word", ["--wrap=true", "--ignore-pbs"])
def test_what_decides_how_a_script_is_read_cannot_stand_in_it(word):
    with pytest.raises(OptionError, match="comes too late") as caught:
        submit("late.sh", files={"late.sh": f"#!/bin/sh\n#SBATCH {word}\n".encode()})
    assert caught.value.source == "late.sh:2"


def test_a_stray_word_in_a_directive_is_refused():
    with pytest.raises(OptionError) as caught:
        submit("stray.sh", files={"stray.sh": b"#!/bin/sh\n#SBATCH stray\n"})
    assert caught.value.render("sbatch").startswith("sbatch: error: Invalid directive found in batch script: stray\n")
