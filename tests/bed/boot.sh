#!/bin/sh
# The boot of a host of the bed: runs as pid 1 of fresh mount, uts, ipc and pid namespaces, inside the host's network
# namespace.  Mounts the host's own file systems, moves into them and starts its sshd.
#   D  the host's directory (upper, work, root, boot_id)   LOWER  its root file system   NAME, ADDRESS  its own
#   SSHD  the command line of its ssh server               TMP_SIZE, TMP_OPTIONS  of /tmp
set -e
mount --make-rprivate /
R=$D/root
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$D/upper,workdir=$D/work" "$R"
mount -t proc proc "$R/proc"
mount -t tmpfs -o mode=755,size=64k dev "$R/dev"
for f in null zero full random urandom tty; do
    : >"$R/dev/$f"
    mount --bind "/dev/$f" "$R/dev/$f"
done
mkdir "$R/dev/pts" "$R/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$R/dev/pts"
ln -s pts/ptmx "$R/dev/ptmx"
ln -s /proc/self/fd "$R/dev/fd"
ln -s fd/0 "$R/dev/stdin"
ln -s fd/1 "$R/dev/stdout"
ln -s fd/2 "$R/dev/stderr"
mount -t tmpfs -o mode=1777 shm "$R/dev/shm"
mount -t tmpfs -o "mode=1777,size=$TMP_SIZE$TMP_OPTIONS" tmp "$R/tmp"
mount -t tmpfs -o mode=755,size=16m run "$R/run"
mkdir -p "$R/run/sshd"
# One kernel has one boot_id; a host of its own needs its own, or a reboot could never be told.
mount --bind "$D/boot_id" "$R/proc/sys/kernel/random/boot_id"
hostname "$NAME"
ip link set lo up
ip addr replace "$ADDRESS/16" dev eth0
ip link set eth0 up
cd "$R"
pivot_root . mnt
cd /
unset BED_SESSION LOWER D R TMP_SIZE TMP_OPTIONS
# shellcheck disable=SC2016  # expanded by the host's own shell
exec /bin/sh -c '
umount -l /mnt
$SSHD </dev/null >>/var/log/sshd.log 2>&1 &
while :; do
    wait # reaps orphans, as an init does
    sleep 3600 &
done'
