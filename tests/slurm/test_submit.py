"""What sbatch asks for: options × sources, the script's directives, names, the environment that travels."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshq.errors import OptionError
from sshq.slurm.directives import split_words
from sshq.slurm.submit import build_submission

from .recordings import NOW, at
from .test_submit_errors import submit

DIR_SH = (  # the recorder's
    b"#!/bin/bash\n# plain comment\n#SBATCH   --job-name=dirjob   # trailing comment\n#SBATCH -t 5 -n 2\n"
    b"#SBATCH --comment='two words'\n#SBATCH --comment=\"double quoted\"\n ##SBATCH --nice=5\n##SBATCH --nice=7\n"
    b"#SBATCH\t--exclude=node4\n # SBATCH --hold\n#sbatch --hold\n\n#SBATCH -o dir.out\ntrue\n#SBATCH --job-name=late\n"
)

# option as words, variable, its text there, key, value
CASES = [
    (["-J", "x"], "SBATCH_JOB_NAME", "x", "name", "x"),
    (["-o", "a%j"], "SBATCH_OUTPUT", "a%j", "std_out", "a%j"),
    (["-e", "e"], "SBATCH_ERROR", "e", "std_err", "e"),
    (["-i", "in"], "SBATCH_INPUT", "in", "std_in", "in"),
    (["-D", "sub"], None, None, "work_dir", "/sub/here/sub"),
    (["-D", "/abs"], None, None, "work_dir", "/abs"),
    (["-p", "a,b"], "SBATCH_PARTITION", "a,b", "partition", ["a", "b"]),
    (["-t", "10:30"], "SBATCH_TIMELIMIT", "10:30", "time_limit_s", 660),
    (["-t", "0"], "SBATCH_TIMELIMIT", "UNLIMITED", "time_limit_s", -1),
    (["-t", "-1"], None, None, "time_limit_s", -1),
    (["-c4"], None, None, "cpus_per_task", 4),
    (["-n", "3"], None, None, "num_tasks", 3),
    (["--ntasks-per-node=3"], None, None, "num_tasks", 3),
    (["-N1-4"], None, None, "num_nodes", 1),
    (["--mem=512K"], "SBATCH_MEM_PER_NODE", "1M", "memory_mib", 1),
    (["--mem-per-cpu=2G"], "SBATCH_MEM_PER_CPU", "2048", "memory_per_cpu_mib", 2048),
    (["-w", "n1"], None, None, "req_nodes", "n1"),
    (["-x", "n[1-3]"], None, None, "exc_nodes", "n[1-3]"),
    (["-C", "fast&big"], "SBATCH_CONSTRAINT", "fast&big", "features", "fast&big"),
    (["--nice"], None, None, "nice", 100),
    (["--nice=-5"], None, None, "nice", -5),
    (["--nice=abc"], None, None, "nice", 0),
    (["--priority=1234"], None, None, "priority", 1234),
    (["-H"], None, None, "held", True),
    (["-b", "now+1hour"], None, None, "begin_at", NOW + 3600),
    (["--begin=2030-01-02T03:04:05"], None, None, "begin_at", at("2030-01-02T03:04:05")),
    (["--deadline=now+2hours"], None, None, "deadline_at", NOW + 7200),
    (["--export=NONE"], "SBATCH_EXPORT", "NONE", "export", "NONE"),
    (["--open-mode=a"], "SBATCH_OPEN_MODE", "append", "open_mode", "append"),
    (["--signal=B:USR1@57"], "SBATCH_SIGNAL", "B:10@57", "signal", [10, 57, True]),
    (["--signal=INT"], None, None, "signal", [2, 60, False]),
    (["--requeue"], "SBATCH_REQUEUE", "", "requeue", True),
    (["--requeue=always"], "SBATCH_REQUEUE", "always", "requeue", "always"),
    (["--no-requeue"], "SBATCH_NO_REQUEUE", "", "requeue", False),
    (["--retries=3"], None, None, "retries", 3),
    (["--comment", "two words"], None, None, "comment", "two words"),
    (["-a", "1-5%2"], "SBATCH_ARRAY_INX", "1-5%2", "array", "1-5"),
    (["-a", "1-5%2"], None, None, "array_limit", 2),
    (["-d", "afterok:1?afterany:2"], None, None, "dependency", "afterok:1?afterany:2"),
    (["--kill-on-invalid-dep=yes"], None, None, "kill_on_invalid_dep", True),
    (["--exclusive=user"], "SBATCH_EXCLUSIVE", "", "exclusive", True),
    (["--anywhere"], None, None, "anywhere", True),
    (["--mincpus=3"], None, None, "min_cpus", 3),
    (["--tmp=2G"], None, None, "tmp_disk_mib", 2048),
    (["--prefer=fast|big"], None, None, "prefer", "fast|big"),
    (["-L", "matlab:2,fluent"], None, None, "licenses", "matlab:2,fluent"),
    (["-O"], "SBATCH_OVERCOMMIT", "", "overcommit", True),
    (["-A", "acct"], "SBATCH_ACCOUNT", "acct", "account", "acct"),
    (["-q", "high"], "SBATCH_QOS", "high", "qos", "high"),
]


@pytest.mark.parametrize(("words", "variable", "text", "key", "value"), CASES)
def test_every_source_gives_the_same_value(words, variable, text, key, value):
    assert submit(*words, "ok.sh").description[key] == value
    line = " ".join(f"'{word}'" for word in words)
    script = f"#!/bin/sh\n#SBATCH {line}\n".encode()
    assert submit("s.sh", files={"s.sh": script}).description[key] == value
    assert submit("s.sh", files={"s.sh": script.replace(b"#SBATCH", b"#SSHQ")}).description[key] == value
    if variable:
        assert submit("ok.sh", environ={variable: text}).description[key] == value


def test_the_description_travels_as_json():
    for words, *_ in CASES:
        description = submit(*words, "ok.sh", "an", "arg").description
        assert json.loads(json.dumps(description)) == description


def test_nothing_said_leaves_the_defaults_to_the_controller():
    description = submit("ok.sh").description
    keys = ("partition", "time_limit_s", "memory_mib", "std_out", "requeue", "begin_at", "array", "dependency", "export")
    assert {key: description[key] for key in keys} == dict.fromkeys(keys)
    assert (description["num_nodes"], description["num_tasks"], description["ntasks_given"]) == (1, 1, False)


def test_command_line_beats_environment_beats_directives():
    first = submit("-H", "--time=7", "dir.sh", files={"dir.sh": DIR_SH}).description
    assert (first["name"], first["time_limit_s"], first["num_tasks"]) == ("dirjob", 420, 2)
    assert (first["comment"], first["exc_nodes"], first["nice"]) == ("double quoted", "node4", 0)
    assert (first["command"], first["std_out"]) == ("/sub/here/dir.sh", "dir.out")
    second = submit("dir.sh", files={"dir.sh": DIR_SH}, environ={"SBATCH_JOB_NAME": "fromenv", "SBATCH_TIMELIMIT": "9"})
    assert (second.description["name"], second.description["time_limit_s"]) == ("fromenv", 540)
    assert second.description["held"] is False


def test_other_systems_directives_count_unless_told_not_to():
    script = b"#!/bin/sh\n#BSUB -J lsf -W 1:30\n#PBS -N pbsname -l walltime=10:00,mem=2gb\ntrue\n"
    described = submit(stdin=script).description
    assert (described["name"], described["time_limit_s"], described["memory_mib"]) == ("lsf", 5400, 2048)
    assert submit("--ignore-pbs", stdin=script).description["name"] == "sbatch"


def test_names_come_from_where_slurm_takes_them():
    assert submit("--wrap", "echo hi").description["name"] == "wrap"
    assert submit(stdin=b"#!/bin/sh\n").description["name"] == "sbatch"
    assert submit("ok.sh").description["name"] == "ok.sh"


def test_wrap_makes_the_script_slurm_makes():
    submission = submit("--wrap", "sleep 1")
    assert submission.description["script"] == "#!/bin/sh\n# This script was created by sbatch --wrap.\n\nsleep 1\n"
    assert submission.description["command"] == ""


def test_words_behind_the_script_are_its_own():
    submission = submit("ok.sh", "a", "b c", "--parsable")
    assert submission.description["args"] == ["a", "b c", "--parsable"]
    assert not submission.parsable


def test_a_script_is_sought_here_and_then_on_the_path():
    def read_file(path):
        if path != "/opt/bin/tool":
            raise FileNotFoundError(path)
        return b"#!/bin/sh\n"

    submission = build_submission(
        ["tool"], {"PATH": "/usr/bin:/opt/bin"}, read_file=read_file, read_stdin=bytes, now=NOW, umask=0, cwd="/sub"
    )
    assert submission.description["command"] == "/opt/bin/tool"


def test_a_script_that_is_no_utf8_arrives_byte_for_byte():
    script = b"#!/bin/sh\necho \xff\xfe\n"
    text = submit(stdin=script).description["script"]
    assert json.loads(json.dumps(text)).encode("utf-8", "surrogateescape") == script


def test_sruns_words_are_run_as_they_are():
    def run(*argv):
        return build_submission(
            argv, {"SLURM_TIMELIMIT": "5"}, read_file=bytes, read_stdin=bytes, now=NOW, umask=0, cwd="/sub", command="srun"
        )

    description = run("-c2", "/bin/echo", "a b", "-v").description
    words = ["--ntasks=1", "--cpus-per-task=2", "--", "/bin/echo", "a b", "-v"]
    assert (description["name"], description["args"]) == ("echo", words)
    assert (description["command"], description["time_limit_s"]) == ("/bin/echo a b -v", 300)
    assert run("-n2", "-lK", "true").description["args"] == ["--ntasks=2", "--label", "--kill-on-bad-exit=1", "--", "true"]
    by_task = run("--ntasks-per-node=2", "-o", "x%2t", "-e", "y", "true")
    assert by_task.description["args"][:3] == ["--ntasks=2", "--ntasks-per-node=2", "--output=x%2t"]
    assert (by_task.description["std_out"], by_task.description["std_err"]) == (None, "y")
    with pytest.raises(OptionError, match="No command given to execute"):
        run("-c2")


def test_ignored_options_warn_once_each():
    submission = submit("--switches=1", "--mail-type=END", "--mail-user=anna", "--mail-type=ALL", "-A", "x", "ok.sh")
    assert len(submission.warnings) == 3
    assert "--mail-type, --mail-user have no effect here: sshq sends no mail; see sbatch --wait" in submission.warnings
    assert "--switches has no effect here: sshq does not know the network's shape" in submission.warnings


def test_the_commands_own_options_stay_with_the_command():
    submission = submit("-W", "-Q", "-vv", "--parsable", "--test-only", "ok.sh")
    assert (submission.wait, submission.quiet, submission.verbose) == (True, True, 2)
    assert (submission.parsable, submission.test_only) == (True, True)
    assert not {"wait", "quiet", "verbose", "parsable", "test_only"} & set(submission.description)


def test_flags_by_variable_follow_the_manual():
    for text, on in (("", True), ("yes", True), ("1", True), ("0", False), ("no", False)):
        assert submit("ok.sh", environ={"SBATCH_WAIT": text}).wait is on


@pytest.mark.parametrize(("flag", "wants"), [("--help", "help"), ("-h", "help"), ("--usage", "usage"), ("-V", "version")])
def test_help_answers_before_anything_is_read(flag, wants):
    assert submit(flag, "no-such.sh").wants == wants


def test_the_stronger_kind_of_memory_wins_over_the_weaker_source():
    description = submit("--mem=1G", "ok.sh", environ={"SBATCH_MEM_PER_CPU": "100"}).description
    assert (description["memory_mib"], description["memory_per_cpu_mib"]) == (1024, None)


def test_sources_name_what_the_controller_may_refuse():
    script = b"#!/bin/sh\n#SBATCH --partition=gpuu\n"
    sources = submit("-C", "fast", "t.sh", files={"t.sh": script}).sources
    assert sources["partition"] == "t.sh:2: #SBATCH --partition=gpuu"
    assert sources["features"] == "-C fast"


def test_an_export_file_stands_alone_unless_export_says_otherwise():
    files = {"vars": b"A=1\0B=two words\0"}
    environ = {"MINE": "x"}
    assert submit("--export-file=/sub/vars", "ok.sh", files=files, environ=environ).environ == {"A": "1", "B": "two words"}
    both = submit("--export-file=/sub/vars", "--export=ALL", "ok.sh", files=files, environ=environ).environ
    assert both == {"A": "1", "B": "two words", "MINE": "x"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("   # all comment", []),
        (" -a b", ["-a", "b"]),
        ("\t--x='a # b' # c", ["--x=a # b"]),
        (" --x=a#b", ["--x=a#b"]),
        (' --x="a \\" b"', ['--x=a " b']),
        (" a\\ b", ["a b"]),
        (" ''", [""]),
    ],
)
def test_directives_are_split_as_by_a_shell(line, words):
    assert split_words(line) == words


@given(st.lists(st.text(st.characters(blacklist_characters="'\0\n\r", blacklist_categories=("Cs",)))))
def test_single_quotes_carry_any_word(words):
    assert split_words(" ".join(f"'{word}'" for word in words)) == words


@pytest.mark.parametrize(("argv", "nodes", "tasks", "warnings"), [
    (["-N2"], 2, 2, []),
    (["-N2", "-n4", "-c2"], 2, 4, []),
    (["-N2", "--ntasks-per-node=3"], 2, 6, []),
    (["-w", "n[1-3]"], 3, 3, []),
    (["-N4", "-w", "n[1-3]"], 4, 4, []),
    (["-N2-4"], 2, 2, []),
    (["-N3", "-n2"], 2, 2, ["can't run 2 processes on 3 nodes, setting nnodes to 2"]),
    (["--ntasks-per-node=3"], 1, 3, []),
])  # fmt: skip
def test_nodes_and_tasks_follow_from_each_other(argv, nodes, tasks, warnings):
    found = submit(*argv, "--wrap", "true")
    assert (found.description["num_nodes"], found.description["num_tasks"], found.warnings) == (nodes, tasks, warnings)


def test_a_node_file_stands_in_for_the_list():
    files = {"nodes": b"# mine\nn2, n[4-5]\n n1 n2\n", "none": b"#\n"}
    submission = submit("-F", "nodes", "-w", "n9", "ok.sh", files=files)
    assert submission.description["req_nodes"] == "n2,n4,n5,n1"
    assert submission.description["num_nodes"] == 4
    for name in ("none", "missing"):
        with pytest.raises(OptionError, match="Invalid --nodefile node file") as caught:
            submit("-F", name, "ok.sh", files=files)
        assert caught.value.exit_code == 255


def test_heterogeneous_jobs_are_refused_in_a_script_too():
    with pytest.raises(OptionError, match="heterogeneous jobs are not supported") as caught:
        submit("het.sh", files={"het.sh": b"#!/bin/sh\n#SBATCH -n1\n#SBATCH hetjob\n#SBATCH -n2\n"})
    assert caught.value.detail == ("het.sh:3: #SBATCH hetjob",)


def test_a_cluster_is_remembered_and_only_a_strange_one_warned_of():
    assert (submit("-M", "sshq", "ok.sh").cluster, submit("-M", "sshq", "ok.sh").warnings) == ("sshq", [])
    assert submit("-M", "other", "ok.sh").warnings == ["--clusters has no effect here: there is one cluster"]


def test_slurms_variable_for_the_umask_counts():
    assert submit("ok.sh", environ={"SLURM_UMASK": "0077"}).description["umask"] == 0o077
    assert submit("ok.sh", environ={"SLURM_UMASK": "9"}).description["umask"] == submit("ok.sh").description["umask"]


def test_a_deadline_before_the_begin_is_refused():
    with pytest.raises(OptionError, match="Incompatible begin and deadline time specification"):
        submit("--begin=now+2hours", "--deadline=now+1hour", "ok.sh")


def test_limits_travel_by_name():
    def run(*argv):
        return build_submission(
            argv, {}, read_file=lambda _: b"#!/bin/sh\n", read_stdin=bytes, now=NOW, umask=0, cwd="/sub", read_limit=len
        )

    assert run("--propagate=NOFILE,core", "x").description["limits"] == {"NOFILE": 6, "CORE": 4}
    assert len(run("--propagate", "x").description["limits"]) == 10
    assert "limits" not in run("--propagate=NONE", "x").description
    with pytest.raises(OptionError) as caught:
        run("--propagate=NOSUCH", "x")
    assert caught.value.render("sbatch").startswith("sbatch: error: Bad rlimit name: NOSUCH\nsbatch: error: --propagate=NOSUCH is not valid.\n")
    assert caught.value.exit_code == 255
