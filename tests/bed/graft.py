"""Mount a directory of this mount namespace inside another process's: `graft.py PID DIRECTORY PATH`.

open_tree here, setns there, move_mount.  A process of its own, since setns wants a single thread.
"""

import ctypes
import os
import sys

OPEN_TREE, MOVE_MOUNT = 428, 429
CLONE_RECURSIVE = 1 | 0x80000 | 0x8000  # OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC, AT_RECURSIVE
CLONE_NEWNS = 0x20000
AT_FDCWD = -100
FROM_EMPTY_PATH = 4


def check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def graft(pid: int, directory: str, path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    tree = check(libc.syscall(OPEN_TREE, AT_FDCWD, directory.encode(), CLONE_RECURSIVE))
    space = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    check(libc.setns(space, CLONE_NEWNS))
    check(libc.syscall(MOVE_MOUNT, tree, b"", AT_FDCWD, path.encode(), FROM_EMPTY_PATH))


if __name__ == "__main__":
    graft(int(sys.argv[1]), sys.argv[2], sys.argv[3])
