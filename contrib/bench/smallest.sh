#!/bin/sh
# The smallest runner: fork, record, forget.  What a runner for nodes costs that keeps none of ours promises: no arbiter, no
# floor, no claim before the start, no identity of the job before it runs, no environment, no TMPDIR, no clean signals, no sweep.
# Fed to `exec /bin/sh` after a line S=SPOOL; `run ID SCRIPT` and `ack ID...` are the calls, S and X lines the answers.  See node.py.
umask 077
set -C # `>` creates exclusively
mkdir -p "$S/j" && cd "$S" || exit 90
read -r BOOT </proc/sys/kernel/random/boot_id
mkfifo ev || exit 91
# shellcheck disable=SC2094
exec 4<>ev 5<ev
cat <&5 4>&- 5<&- &
exec 5<&-

up() { read -r UP _ </proc/uptime; }

start_of() { # PID: sets ST, its start time
    ST=
    read -r ST 2>/dev/null <"/proc/$1/stat" || return 1
    # shellcheck disable=SC2086 # letters and numbers
    set -- ${ST##*) }
    [ "$1" != Z ] || return 1
    ST=${20}
}

shim() { # ID: one a job
    trap '' HUP PIPE INT
    exec 4>&-
    read -r ME _ </proc/self/stat
    J='' T=''
    trap 'I=1; T=C; [ -z "$J" ] || kill -s TERM -- -$J || kill -TERM $J' TERM
    trap 'I=1; T=T; kill -s TERM -- -$J' USR1
    up
    B=$UP
    setsid /bin/sh "j/$1.sh" <&3 >"j/$1.out" 2>&1 3<&- &
    J=$!
    start_of "$J"
    JS=$ST
    start_of "$ME"
    MS=$ST
    echo "$1 $ME $MS $J $JS $B $BOOT ." >"j/$1.st"
    echo "S $1 $J $B" 1<>ev
    C=''
    while :; do
        I=''
        wait "$J"
        c=$?
        [ $c = 127 ] && [ -n "$C" ] || C=$c
        [ -n "$I" ] || break # a trapped signal ends `wait` early
    done
    kill -s KILL -- "-$J"
    up
    if [ -n "$RENAME" ]; then
        { echo "$1 $C ${T:--} $B $UP $BOOT" && times && echo .; } >"j/$1.tmp"
        mv "j/$1.tmp" "j/$1.rec"
    else # closed by a line of its own
        { echo "$1 $C ${T:--} $B $UP $BOOT" && times && echo .; } >"j/$1.rec"
    fi
    echo "X $1 $C ${T:--} $B $UP" 1<>ev
}

run() { # ID SCRIPT
    if printf '%s\n' "$2" >"j/$1.sh"; then
        shim "$1" 3</dev/null </dev/null >/dev/null 2>&1 &
    else echo "E $1" >&4; fi
} 2>/dev/null

ack() {
    for i; do
        set -- "$@" "j/$i.sh" "j/$i.st" "j/$i.out" "j/$i.rec"
        shift
    done
    rm -f "$@"
}

echo "H $$" >&4
