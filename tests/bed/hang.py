"""A file system that never answers, mounted in another mount namespace: what a dead file server looks like.

Run as `hang.py PID PATH`: prints a line once it is mounted.  When it is killed the kernel wakes everybody who waits there.
"""

import ctypes
import os
import sys
import time

CLONE_NEWNS = 0x00020000


def main(pid: int, path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    space = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    if libc.setns(space, CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "setns")
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"hang", path.encode(), b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), "mount")
    print("mounted", flush=True)
    while True:  # and never reads a request
        time.sleep(3600)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
