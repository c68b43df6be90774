"""What mount tables of real machines say of a directory, and when two of them say the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshq.core.mounts import Match, compare, find_mount, identify, parse_mountinfo

HEAD = r"""
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:5 - proc proc rw
31 22 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
95 22 0:54 / /home rw,relatime shared:52 - nfs4 fs1.lab.example:/export/home rw,vers=4.2,rsize=1048576,hard,proto=tcp,sec=sys,clientaddr=10.0.0.5,local_lock=none,addr=10.0.0.2
96 22 0:55 / /data rw,relatime shared:53 - nfs fs1:/vol/data rw,vers=3,hard,proto=tcp,mountaddr=10.0.0.2,mountvers=3,local_lock=none,addr=10.0.0.2
97 22 0:56 / /scratch rw,relatime shared:54 - lustre 10.1.0.1@o2ib:10.1.0.2@o2ib:/scratch rw,flock,lazystatfs
98 22 0:57 /team /mnt/share rw,relatime shared:55 - cifs //FILER.lab.example/Lab$ rw,vers=3.1.1,sec=krb5,cruid=1000,cache=strict,username=a,uid=0,noforceuid,addr=10.0.0.9,file_mode=0755
99 22 0:58 / /ceph rw,relatime shared:56 - ceph 10.2.0.2:6789,10.2.0.1:6789:/lab rw,name=lab,secret=<hidden>,acl
100 22 0:59 / /beegfs rw,relatime shared:57 - beegfs beegfs_nodev rw,cfgFile=/etc/beegfs/beegfs-client.conf
101 22 0:60 / /gpfs rw,relatime shared:58 - gpfs gpfs0 rw
102 22 0:61 / /misc rw,relatime shared:59 - autofs /etc/auto.misc rw,fd=6,pgrp=914,timeout=300,minproto=5,maxproto=5,indirect,pipe_ino=18243
103 102 0:62 / /misc/proj rw,relatime shared:60 - nfs4 fs1:/export/proj rw,vers=4.1,addr=10.0.0.2
104 22 0:63 / /six rw,relatime - nfs4 [fd00::2]:/export/six rw,vers=4.2,addr=fd00::2
105 22 0:64 / /with\040blank rw,relatime - nfs4 fs1:/export/with\040blank rw,vers=4.2,addr=10.0.0.2
106 22 0:65 / /ssh rw,nosuid,nodev,relatime - fuse.sshfs anna@fs1:/srv rw,user_id=1000,group_id=1000
107 22 0:66 / /local rw,relatime - nfs4 localhost:/export rw,vers=4.2,addr=127.0.0.1
108 22 0:67 / /gl rw,relatime - fuse.glusterfs gl1:/vol0 rw,user_id=0
109 22 0:68 / /newceph rw,relatime - ceph lab@8d5a3e2c-0000-4000-8000-000000000001.labfs=/lab rw,mon_addr=10.2.0.1:3300
110 22 0:54 / /srv/bound rw,relatime shared:52 - nfs4 fs1.lab.example:/export/home/anna/bound rw,vers=4.2,addr=10.0.0.2
111 22 0:70 / /over rw - nfs4 fs1:/export/under rw,addr=10.0.0.2
112 111 0:71 / /over/deep rw - nfs4 fs1:/export/hidden rw,addr=10.0.0.2
113 111 0:72 / /over rw - nfs4 fs1:/export/top rw,addr=10.0.0.2
"""

IDENTITIES = {
    "/": "ext4 /dev/nvme0n1p2",
    "/homes": "ext4 /dev/nvme0n1p2",  # not below /home
    "/home": "nfs4 fs1.lab.example:/export/home",
    "/home/anna/x": "nfs4 fs1.lab.example:/export/home/anna/x",
    "/data/a": "nfs fs1:/vol/data/a",
    "/scratch/a": "lustre 10.1.0.1@o2ib:10.1.0.2@o2ib:/scratch/a",
    "/mnt/share/a": "cifs //filer.lab.example/lab$/team/a",
    "/ceph/a": "ceph 10.2.0.1:6789,10.2.0.2:6789:/lab/a",
    "/newceph/a": "ceph 8d5a3e2c-0000-4000-8000-000000000001.labfs:/lab/a",
    "/beegfs/a": "beegfs beegfs_nodev",
    "/gpfs/a": "gpfs gpfs0",
    "/misc/other": "autofs /etc/auto.misc",
    "/misc/proj/a": "nfs4 fs1:/export/proj/a",
    "/six/a": "nfs4 fd00::2:/export/six/a",
    "/with blank/a": "nfs4 fs1:/export/with blank/a",
    "/ssh/a": "fuse.sshfs fs1:/srv/a",
    "/local/a": "nfs4 localhost:/export",
    "/gl/a": "fuse.glusterfs gl1:/vol0/a",
    "/srv/bound/x": "nfs4 fs1.lab.example:/export/home/anna/bound/x",  # a bind mount: NFS names its place by itself
    "/over/deep/x": "nfs4 fs1:/export/top/deep/x",  # what lies over a mount hides what was mounted below it
}


@pytest.mark.parametrize("path", IDENTITIES)
def test_what_a_directory_is(path):
    assert str(identify(parse_mountinfo(HEAD), path)) == IDENTITIES[path]


def one(point, fstype, source, options="rw", root="/"):
    return f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n50 22 0:50 {root} {point} rw,relatime shared:9 - {fstype} {source} {options}\n"


NODES = {
    "the same": ("/home", one("/home", "nfs4", "fs1.lab.example:/export/home", "rw,addr=10.0.0.2"), "/home", Match.SAME),
    "the server by its short name, and the same address": ("/home", one("/home", "nfs4", "fs1:/export/home", "rw,addr=10.0.0.2"), "/home", Match.SAME),
    "the same name, another address": ("/home", one("/home", "nfs4", "fs1.lab.example:/export/home", "rw,addr=10.9.0.2"), "/home", Match.OTHER),
    "the same export at another path": ("/home/anna", one("/net/homes", "nfs4", "fs1:/export/home", "rw,addr=10.0.0.2"), "/net/homes/anna", Match.SAME),
    "a part of it exported": ("/home/anna/x", one("/home/anna", "nfs4", "fs1:/export/home/anna", "rw,addr=10.0.0.2"), "/home/anna/x", Match.SAME),
    "another export at the same path": ("/home", one("/home", "nfs4", "fs1:/export/home2", "rw,addr=10.0.0.2"), "/home", Match.OTHER),
    "another server at the same path": ("/home", one("/home", "nfs4", "fs2:/export/home", "rw,addr=10.0.0.3"), "/home", Match.OTHER),
    "another version may have another root": ("/data", one("/data", "nfs4", "fs1:/vol/data", "rw,addr=10.0.0.2"), "/data", Match.OTHER),
    "its own disk": ("/home", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "/home", Match.OTHER),
    "its own disk, and the head's own": ("/opt", "22 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n", "/opt", Match.OTHER),
    "no server is named": ("/beegfs", one("/beegfs", "beegfs", "beegfs_nodev"), "/beegfs", Match.UNKNOWN),
    "a device that names no cluster": ("/gpfs", one("/gpfs", "gpfs", "gpfs0"), "/gpfs", Match.UNKNOWN),
    "a server that is each machine itself": ("/local", one("/local", "nfs4", "localhost:/export", "rw,addr=127.0.0.1"), "/local", Match.UNKNOWN),
    "a share by another case": ("/mnt/share/a", one("/x", "cifs", "//filer.lab.example/LAB$", "rw,addr=10.0.0.9", "/team"), "/x/a", Match.SAME),
    "monitors in another order": ("/ceph/a", one("/ceph", "ceph", "10.2.0.1:6789,10.2.0.2:6789:/lab"), "/ceph/a", Match.SAME),
    "a file system of that name elsewhere": ("/scratch", one("/scratch", "lustre", "10.7.0.1@tcp:/scratch"), "/scratch", Match.OTHER),
    "not mounted yet": ("/misc/proj", one("/misc", "autofs", "/etc/auto.misc"), "/misc/proj", Match.UNKNOWN),
    "no table": ("/home", "", "/home", Match.UNKNOWN),
}


@pytest.mark.parametrize("case", NODES)
def test_whether_two_machines_name_the_same(case):
    here, table, there, expected = NODES[case]
    ours, theirs = identify(parse_mountinfo(HEAD), here), identify(parse_mountinfo(table), there)
    assert compare(ours, theirs) is expected
    assert compare(theirs, ours) is expected


def test_a_chroot_shows_a_part_of_the_table():
    table = "60 40 0:50 / /home rw - nfs4 fs1:/export/home rw\n61 40 8:1 /chroot / rw - ext4 /dev/sda1 rw\n"
    assert str(identify(parse_mountinfo(table), "/home/a")) == "nfs4 fs1:/export/home/a"
    assert str(identify(parse_mountinfo(table), "/etc")) == "ext4 /dev/sda1"


@given(st.text(alphabet="0123 /-\n\\:nfs4", max_size=200), st.text(alphabet="/ab", max_size=5))
def test_whatever_a_node_says_is_no_fault_of_ours(text, path):
    identify(parse_mountinfo(text), "/" + path)
    find_mount(parse_mountinfo(HEAD + text), "/" + path)


def test_a_table_that_leads_in_a_circle_is_read_to_an_end() -> None:
    lines = ("1 0 0:1 / / rw - ext4 /dev/a rw", "2 1 0:2 / /a rw - tmpfs t rw", "3 2 0:3 / /a rw - tmpfs u rw", "2 3 0:4 / /a rw - tmpfs v rw")
    assert find_mount(parse_mountinfo("\n".join(lines)), "/a/b") is not None
