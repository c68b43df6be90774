"""What is read of a repository without git, beside what git itself says of it; and repositories that make no sense."""

import os
import subprocess
import tempfile

import pytest

from sshq.api import gitindex
from sshq.api.gitfacts import read_git

ENV = {
    "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@x",
    "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@x",
}  # fmt: skip
PAST = 1_700_000_000  # long before any index here is written: then times prove what they say


def git(folder, *words, check=True):
    done = subprocess.run(["git", "-C", folder, *words], env=ENV, capture_output=True, text=True, check=check)
    return done.stdout.strip()


def write(path, text, at=PAST):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


def look(folder):
    return read_git(str(folder), look_s=60.0)


@pytest.fixture
def repo(tmp_path):
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    write(folder / "a.txt", "one\n")
    write(folder / "sub" / "run.sh", "#!/bin/sh\n")
    os.symlink("a.txt", folder / "link")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def test_a_clean_work_tree_is_told_from_any_directory_in_it(repo):
    found = look(repo / "sub")
    assert found["top"] == str(repo)
    assert (found["commit"], found["branch"], found["state"]) == (git(repo, "rev-parse", "HEAD"), "main", "clean")
    assert len(found["files"]) == 64
    assert "problem" not in found


def test_outside_of_any_repository_nothing_is_told(tmp_path):
    assert look(tmp_path) == {}
    assert look(tmp_path / "nowhere") == {}


def touch(repo):
    os.utime(repo / "a.txt")


def edit(repo):
    write(repo / "a.txt", "twenty\n")


def remove(repo):
    (repo / "a.txt").unlink()


def stage(repo):
    write(repo / "a.txt", "three\n")
    git(repo, "add", "a.txt")


def stage_new(repo):
    write(repo / "new.txt", "x")
    git(repo, "add", "new.txt")


def add_untracked(repo):
    write(repo / "scratch.txt", "x")


def make_program(repo):
    (repo / "a.txt").chmod(0o755)


def intend(repo):
    write(repo / "later.txt", "x")
    git(repo, "add", "-N", "later.txt")


def turn_link(repo):
    (repo / "link").unlink()
    os.symlink("sub", repo / "link")


def link_to_file(repo):
    (repo / "link").unlink()
    write(repo / "link", "a.txt")


def soft_reset(repo):
    edit(repo)
    git(repo, "commit", "-qam", "second")
    git(repo, "reset", "-q", "--soft", "HEAD~1")


def aborted_commit(repo):
    """Git writes the tree of the index before it opens an editor: then the index knows a tree that is not the commit's."""
    stage(repo)
    git(repo, "write-tree")
    git(repo, "-c", "core.editor=false", "commit", check=False)


STATES = {
    "touched": (touch, "clean"), "edited": (edit, "changed"), "removed": (remove, "changed"), "staged": (stage, None),
    "a new file staged": (stage_new, None), "untracked": (add_untracked, "clean"), "made a program": (make_program, "changed"),
    "intended": (intend, "changed"), "another link": (turn_link, "changed"), "a file for a link": (link_to_file, "changed"),
    "soft reset": (soft_reset, "changed"), "a commit given up": (aborted_commit, "changed"),
}  # fmt: skip


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
@pytest.mark.parametrize("case", STATES)
def test_a_state_is_what_git_says_or_not_known(repo, case, packed, version):
    git(repo, "update-index", "--index-version", str(version))
    if packed:
        git(repo, "gc", "-q")
    change, expected = STATES[case]
    change(repo)
    found = look(repo)
    told = "changed" if git(repo, "status", "--porcelain", "-uno") else "clean"
    assert found["state"] in ({expected} if expected else {told, "unknown"}), found
    assert found["state"] in (told, "unknown")
    if found["state"] == "unknown":
        assert "not compared with the commit" in found["problem"]


def test_the_digest_of_tracked_files_follows_their_content_alone(repo):
    first = look(repo)["files"]
    touch(repo)
    assert look(repo)["files"] == first
    edit(repo)
    second = look(repo)["files"]
    assert second != first
    git(repo, "commit", "-qam", "second")
    assert look(repo)["files"] == second  # committed or not, the same files
    git(repo, "checkout", "-q", "HEAD~1")
    assert look(repo)["files"] == first


def test_a_file_changed_in_the_moment_the_index_was_written_is_seen(repo):
    """Same size, same time as the index has it: only the content tells, as git's own racy rule has it."""
    index = repo / ".git" / "index"
    os.utime(index, (PAST, PAST))
    write(repo / "a.txt", "ONE\n")
    assert look(repo)["state"] == "changed"


def test_a_detached_head_has_no_branch(repo):
    git(repo, "checkout", "-q", "--detach")
    found = look(repo)
    assert found["commit"] == git(repo, "rev-parse", "HEAD")
    assert "branch" not in found


@pytest.mark.parametrize("branch", ["feature/x", "größe", "a.b-c@d", "heads/heads", "x#y"])
def test_references_loose_and_packed(repo, branch):
    git(repo, "checkout", "-q", "-b", branch)
    loose = look(repo)
    git(repo, "pack-refs", "--all")
    git(repo, "branch", branch + "-longer", "HEAD")
    assert not (repo / ".git" / "refs" / "heads" / branch).exists()
    packed = look(repo)
    assert loose == packed
    assert (packed["branch"], packed["commit"]) == (branch, git(repo, "rev-parse", "HEAD"))


def test_a_loose_reference_is_newer_than_a_packed_one(repo):
    git(repo, "pack-refs", "--all")
    edit(repo)
    git(repo, "commit", "-qam", "second")
    assert look(repo)["commit"] == git(repo, "rev-parse", "HEAD")


def test_a_linked_work_tree_has_its_own_head(repo, tmp_path):
    other = tmp_path / "other"
    git(repo, "worktree", "add", "-q", "-b", "side", str(other))
    write(other / "a.txt", "side\n")
    git(other, "commit", "-qam", "on the side")
    found = look(other)
    assert (found["top"], found["branch"], found["commit"]) == (str(other), "side", git(other, "rev-parse", "HEAD"))
    assert found["state"] == "clean"
    assert look(repo)["commit"] != found["commit"]
    git(repo, "pack-refs", "--all")
    assert look(other)["commit"] == found["commit"]


def test_a_submodule_is_a_repository_of_its_own_and_is_not_entered(repo, tmp_path):
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(repo), "part")
    git(repo, "commit", "-qm", "a part")
    inside = look(repo / "part")
    assert inside["top"] == str(repo / "part")
    assert inside["commit"] == git(repo / "part", "rev-parse", "HEAD")
    write(repo / "part" / "a.txt", "changed\n")
    assert look(repo / "part")["state"] == "changed"
    assert look(repo)["state"] == "clean"


def test_a_branch_without_a_commit(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    assert look(tmp_path) == {"top": str(tmp_path), "branch": "main", "problem": "there is no commit yet"}


def test_a_bare_repository_is_no_work_tree(repo, tmp_path):
    git(tmp_path, "clone", "-q", "--bare", str(repo), "bare.git")
    assert look(tmp_path / "bare.git") == {}


def sha256_repository(folder):
    git(folder, "init", "-q", "--object-format=sha256", "-b", "main")
    write(folder / "a", "x")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")


def test_a_repository_of_longer_names(tmp_path):
    sha256_repository(tmp_path)
    found = look(tmp_path)
    assert (found["commit"], found["state"]) == (git(tmp_path, "rev-parse", "HEAD"), "clean")
    assert len(found["commit"]) == 64


def no_head(dot):
    (dot / "HEAD").unlink()


def garbage_head(dot):
    (dot / "HEAD").write_bytes(b"\xff\x00\x01" * 100)


def climbing_head(dot):
    (dot / "HEAD").write_text("ref: refs/../../../etc/passwd\n")


def foreign_head(dot):
    (dot / "HEAD").write_text("ref: /etc/passwd\n")


def circular_head(dot):
    (dot / "HEAD").write_text("ref: refs/heads/loop\n")
    (dot / "refs" / "heads" / "loop").write_text("ref: refs/heads/loop\n")


def fifo_head(dot):
    (dot / "HEAD").unlink()
    os.mkfifo(dot / "HEAD")


def endless_head(dot):
    (dot / "HEAD").unlink()
    os.symlink("/dev/zero", dot / "HEAD")


def cut_index(dot):
    data = (dot / "index").read_bytes()
    (dot / "index").write_bytes(data[:40])


def garbage_index(dot):
    (dot / "index").write_bytes(os.urandom(4096))


def lying_index(dot):
    """Of more entries than it has."""
    data = (dot / "index").read_bytes()
    (dot / "index").write_bytes(data[:8] + b"\xff\xff\xff\xff" + data[12:])


def no_objects(dot):
    (dot / "objects").rename(dot / "elsewhere")


def lost_worktree(dot):
    dot.rename(dot.with_name("kept"))
    dot.write_text("gitdir: /nowhere/at/all\n")


def no_gitdir(dot):
    dot.rename(dot.with_name("kept"))
    dot.write_bytes(b"\0" * 10_000)


BROKEN = [
    no_head, garbage_head, climbing_head, foreign_head, circular_head, fifo_head, endless_head, cut_index, garbage_index,
    lying_index, no_objects, lost_worktree, no_gitdir,
]  # fmt: skip


@pytest.mark.parametrize("damage", BROKEN)
def test_what_is_broken_is_said_and_disturbs_nothing(repo, damage):
    damage(repo / ".git")
    found = look(repo)
    assert found["top"] == str(repo)
    assert found["problem"]
    assert found.get("state") in (None, "unknown")


@pytest.mark.parametrize("kind", ["pack", "idx"])
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:12], lambda data: data[: 8 + 4 * 256 + 60] + b"\xff" * len(data)])
def test_a_damaged_pack_disturbs_nothing(repo, kind, damage):
    git(repo, "gc", "-q")
    (pack,) = (repo / ".git" / "objects" / "pack").glob(f"*.{kind}")
    pack.chmod(0o600)
    pack.write_bytes(damage(pack.read_bytes()))
    found = look(repo)
    assert found["commit"]
    assert found["state"] in ("clean", "unknown")


def test_what_may_not_be_read_is_said():
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        os.mkdir(f"{top}/.git", 0)
        pid = os.fork()
        if pid == 0:  # root may read all: nobody looks then
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)
            os._exit(0 if "Permission denied" in read_git(top, look_s=1.0).get("problem", "") else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_looking_has_a_bound_and_says_so(repo):
    for number in range(200):
        write(repo / f"f{number}", "x")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "many")
    assert read_git(str(repo), look_s=0.0) == {
        "top": str(repo), "branch": "main", "commit": git(repo, "rev-parse", "HEAD"), "state": "unknown",
        "problem": "looking at all files would have taken too long",
    }  # fmt: skip
    edit(repo)  # the first of all: that much was seen, and no digest of the rest is made up
    found = read_git(str(repo), look_s=0.0)
    assert found["state"] == "changed"
    assert "files" not in found


def test_large_files_that_changed_have_no_digest(repo):
    with open(repo / "a.txt", "wb") as file:
        file.truncate(gitindex.READ_BYTES_MAX + 1)
    found = look(repo)
    assert found["state"] == "changed"
    assert "files" not in found


def test_a_file_system_without_modes_is_no_change(repo):
    git(repo, "config", "core.fileMode", "false")
    make_program(repo)
    assert look(repo)["state"] == "clean"
