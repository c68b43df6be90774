"""Root file systems for hosts, made of this machine's own binaries: no network, no image, about a second.

`lab` has OpenSSH, bash, coreutils, util-linux, procps and Debian's python3 where there is one; `busybox` has busybox sh
and dropbear: no bash, no python, no SFTP, of flock and setsid only busybox's.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable
from glob import glob

from .session import call

COREUTILS = """[ arch base64 basename cat chmod chown cksum comm cp cut date dd df dirname du echo env expr
 false fold head hostid id install join kill link ln logname ls md5sum mkdir mkfifo mknod mktemp mv nice nl
 nohup nproc numfmt od paste pathchk pr printenv printf pwd readlink realpath rm rmdir seq sha1sum sha256sum
 shred shuf sleep sort split stat stdbuf stty sum sync tac tail tee test timeout touch tr true truncate tsort
 tty uname uniq unlink wc who whoami yes""".split()
LAB = [
    *COREUTILS,
    *"""bash sh dash sshd ssh ssh-keygen sftp scp setsid flock ionice taskset prlimit renice mount umount lscpu
 getopt nsenter unshare hostname ps pgrep pkill top free uptime w grep egrep sed awk mawk find xargs tar gzip gunzip
 zcat diff cmp ip getent iconv which su ulimit lsblk script mountpoint""".split(),
]
SSHD_PARTS = ["sftp-server", "sshd-session", "sshd-auth"]  # the latter two since OpenSSH 9.8 and 10.0
USERS = {"alice": 1001, "bob": 1002}
PROFILE = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH\n"
NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"


def system_tool(name: str) -> str | None:
    """A tool of the distribution: never pyenv's or /usr/local's, which a copy would not work without."""
    for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        path = f"{folder}/{name}"
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return None


def libraries_of(paths: Iterable[str]) -> list[str]:
    """The shared libraries these programs load, by one call of ldd."""
    text = call(["ldd", *paths], check=False).stdout
    return sorted(set(re.findall(r"(/\S+\.so\S*) \(0x", text)))


def is_elf(path: str) -> bool:
    with open(os.path.realpath(path), "rb") as file:
        return file.read(4) == b"\x7fELF"


def usr_merged(path: str) -> str:
    """The place of a system file in a root whose /bin, /sbin and /lib are links into /usr."""
    top = path.split("/")[1]
    return "/usr" + path if top in ("bin", "sbin", "lib", "lib64") else path


def copy_programs(root: str, programs: Iterable[str]) -> None:
    """Copy programs with their libraries to the same places below `root`; what is there already stays."""
    programs = list(programs)
    binaries = [p for p in programs if is_elf(p)]
    for path in [*programs, *(libraries_of(binaries) if binaries else [])]:
        target = root + usr_merged(path)
        if not os.path.lexists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(os.path.realpath(path), target)


def write_file(root: str, path: str, text: str, mode: int = 0o644, uid: int = 0) -> None:
    full = root + path
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(full, mode)
    os.chown(full, uid, uid)


def make_directory(root: str, path: str, mode: int = 0o755, uid: int = 0) -> None:
    os.makedirs(root + path, exist_ok=True)
    os.chmod(root + path, mode)
    os.chown(root + path, uid, uid)


def build_skeleton(root: str, user_shell: str) -> None:
    """Directories, accounts and the few files that sshd and libc read."""
    make_directory(root, "/")
    for name in ("bin", "sbin", "lib", "lib64"):
        make_directory(root, f"/usr/{name}")
        os.symlink(f"usr/{name}", f"{root}/{name}")
    for path in ("/dev", "/proc", "/sys", "/etc/ssh", "/run", "/var/log", "/var/empty", "/home", "/mnt", "/usr/local/bin"):
        make_directory(root, path)
    make_directory(root, "/tmp", 0o1777)
    make_directory(root, "/var/tmp", 0o1777)
    make_directory(root, "/root", 0o700)
    accounts = [("root", 0, "/root", user_shell), ("sshd", 100, "/run/sshd", "/bin/false"), ("nobody", 65534, "/", "/bin/false")]
    accounts += [(name, uid, f"/home/{name}", user_shell) for name, uid in USERS.items()]
    write_file(root, "/etc/passwd", "".join(f"{n}:x:{u}:{u}::{home}:{shell}\n" for n, u, home, shell in accounts))
    groups = [("root", 0), ("tty", 5), ("shadow", 42), ("sshd", 100), ("nogroup", 65534), *USERS.items()]
    write_file(root, "/etc/group", "".join(f"{name}:x:{gid}:\n" for name, gid in groups))
    # "*" is an account without a password; "!" would be a locked one, which sshd refuses
    write_file(root, "/etc/shadow", "".join(f"{name}:*:19000:0:99999:7:::\n" for name, *_ in accounts), 0o640)
    write_file(root, "/etc/nsswitch.conf", NSSWITCH)
    write_file(root, "/etc/shells", "/bin/sh\n/bin/bash\n")
    write_file(root, "/etc/hosts", "127.0.0.1 localhost\n")
    write_file(root, "/etc/profile", PROFILE)


def copy_python(root: str) -> None:
    """Debian's own python3 with its library, without what no job of a test needs."""
    python = "/usr/bin/python3"
    if not os.path.exists(python):
        return
    text = call([python, "-c", "import json, sysconfig; print(json.dumps(sysconfig.get_path('stdlib')))"]).stdout
    library = json.loads(text)
    skipped = shutil.ignore_patterns(
        "__pycache__", "test", "idlelib", "tkinter", "ensurepip", "turtledemo", "config-*", "lib2to3", "pydoc_data",
        "dist-packages", "site-packages", "*.a", "EXTERNALLY-MANAGED",
    )  # fmt: skip
    shutil.copytree(library, root + library, ignore=skipped, ignore_dangling_symlinks=True)
    copy_programs(root, [python, *glob(f"{library}/lib-dynload/*.so")])


def build_lab(root: str) -> None:
    build_skeleton(root, "/bin/bash")
    parts = [f"/usr/lib/openssh/{name}" for name in SSHD_PARTS]
    copy_programs(root, [p for p in map(system_tool, LAB) if p] + [p for p in parts if os.path.exists(p)])
    copy_python(root)


def build_busybox(root: str) -> None:
    build_skeleton(root, "/bin/sh")
    busybox = system_tool("busybox")
    dropbear = system_tool("dropbear")
    if not busybox or not dropbear:
        msg = "busybox and dropbear are needed: apt-get install busybox-static dropbear-bin"
        raise FileNotFoundError(msg)
    copy_programs(root, [busybox, dropbear])
    for line in call([busybox, "--list-full"]).stdout.split():
        link = root + usr_merged("/" + line)
        if not os.path.lexists(link):
            os.makedirs(os.path.dirname(link), exist_ok=True)
            os.symlink("/usr/bin/busybox", link)


BUILDERS = {"lab": build_lab, "busybox": build_busybox}
