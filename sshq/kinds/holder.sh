#!/bin/sh
# The job of an allocation without a script, on one of its nodes: it starts the parts that the controller asks for, each at most
# once, and ends when it is told, or with whoever ends it.  Plain sh, under the supervisor like any job.  Also what feeds a
# command the input that comes from afar.
# shellcheck disable=SC2034,SC2154,SC2317,SC2329 # variables of requests; functions called by what stands below this text
#
# SSHQ_DIR.parts/
#   bell         FIFO: a line, the name of a part, says that there is something to look at
#   environ      the job's environment, for terminals, which are no children of this process
#   end          made by the runner: the status to end with
#   TOKEN/       a part, made exclusively by the runner
#     req        what is asked (sshq/runner/parts.py)   go  made exclusively: whoever makes it starts the part
#     pid        the part, leader of a session, and its start
#     rc         its status, once it has ended
#     out, err   its output, where it was given no place
#     in/        its input in pieces: 0, 1, ... with 0.whole beside what is whole, end: how many there are, next: to be read,
#                closed: nobody reads any more; bell: FIFO
#     leash      FIFO of a terminal: open as long as the terminal lives
# What is asked after a look rings; what was asked before is found by the look.  So nothing is lost, whoever is first.
#
# Every variable here begins with h_: what was exported must reach the parts as it is.

h_ring() { # a hint for the controller; the files are the truth
    if [ -p "${SSHQ_DIR%/a/*}/bell" ]; then printf '%s\n' "$*" 1<>"${SSHQ_DIR%/a/*}/bell"; fi
} 2>/dev/null

h_tell() { h_ring "V $SSHQ_ATTEMPT $*"; } # TOKEN WORD [VALUE]

h_is_there() { # PID: sets h_start
    h_stat='' h_start=
    { read -r h_stat; } 2>/dev/null <"/proc/$1/stat" || return 1
    # shellcheck disable=SC2086 # letters and numbers
    set -- ${h_stat##*') '}
    h_start=${20:-}
    case ${1:-Z} in [ZXx]) return 1 ;; esac
}

h_reap() { # PID: sets h_code, whatever signals come meanwhile
    while :; do
        h_woken=
        wait "$1" 2>/dev/null
        h_code=$?
        [ -n "$h_woken" ] || break
        if h_is_there "$1"; then continue; fi
        h_first=$h_code
        wait "$1" 2>/dev/null
        h_code=$?
        [ "$h_code" -ne 127 ] || h_code=$h_first
        break
    done
    [ "$h_code" -le 256 ] || h_code=$((h_code - 128)) # ksh, of a signal
}

# ---------------------------------------------------------------- input that comes in pieces

h_feed() { # DIRECTORY TOKEN: the pieces in their order to standard output
    [ -d "$1/in" ] || mkdir "$1/in" 2>/dev/null
    [ -p "$1/in/bell" ] || mkfifo "$1/in/bell" 2>/dev/null
    exec 8<>"$1/in/bell"
    h_next=0
    while :; do
        h_last=
        if [ -e "$1/in/$h_next.whole" ]; then
            if ! cat "$1/in/$h_next" 2>/dev/null; then
                printf '1\n' >|"$1/in/closed"
                h_tell "$2" closed
                return
            fi
            printf '%s\n' "$((h_next + 1))" >|"$1/in/next"
            rm -f "$1/in/$h_next" "$1/in/$h_next.whole"
            h_next=$((h_next + 1))
            h_tell "$2" took "$h_next"
        elif { read -r h_last <"$1/in/end"; } 2>/dev/null && [ "$h_next" -ge "$h_last" ]; then
            return
        else
            read -r h_last <&8 || h_last=
        fi
    done
}

h_open_feed() { # DIRECTORY TOKEN: sets h_feeder; the other end of DIRECTORY/fifo
    mkfifo "$1/fifo" || return 1
    { h_feed "$1" "$2" >"$1/fifo"; } </dev/null 9<&- &
    h_feeder=$!
}

h_run_fed() { # COMMAND...: become a command whose input comes in pieces
    h_part=$SSHQ_DIR.parts/main
    [ -d "$SSHQ_DIR.parts" ] || mkdir "$SSHQ_DIR.parts" 2>/dev/null
    [ -d "$h_part" ] || mkdir "$h_part" 2>/dev/null
    h_open_feed "$h_part" main || exit 1
    exec <"$h_part/fifo"
    exec "$@"
}

# ---------------------------------------------------------------- parts

h_find_tools() { # as the runner finds them: a session of one's own, and signals that sh took away from what is asynchronous
    h_setsid='' h_signals='' h_script=''
    if h_bin=$(command -v setsid) && "$h_bin" true </dev/null >/dev/null 2>&1; then h_setsid=$h_bin; fi
    if h_bin=$(command -v env) && "$h_bin" --default-signal=INT,QUIT,HUP,PIPE true </dev/null >/dev/null 2>&1; then h_signals=$h_bin; fi
    [ -z "$h_setsid" ] || [ -z "$h_signals" ] || return 0
    if h_bin=$(command -v perl) && "$h_bin" -e 'use POSIX ();' </dev/null >/dev/null 2>&1; then
        # shellcheck disable=SC2016
        h_script='use POSIX (); POSIX::setsid(); $SIG{$_} = "DEFAULT" for qw(INT QUIT HUP PIPE); exec {$ARGV[0]} @ARGV; exit 127'
        h_tool="$h_bin" h_flags=-e
    elif h_bin=$(command -v python3) && "$h_bin" -I -S -c '' </dev/null >/dev/null 2>&1; then
        h_script='import os, signal, sys
for s in (1, 2, 3, 13, 25): signal.signal(s, signal.SIG_DFL)
os.setsid()
os.execvp(sys.argv[1], sys.argv[1:])'
        h_tool="$h_bin" h_flags='-I -S -c'
    fi
}

h_become() { # COMMAND...
    case $1 in
    */*) if [ -d "$1" ]; then h_cause='Permission denied'; elif [ -x "$1" ]; then h_cause=''; elif [ -e "$1" ]; then h_cause='Permission denied'; else h_cause='No such file or directory'; fi ;;
    *) if command -v "$1" >/dev/null; then h_cause=''; else h_cause='No such file or directory'; fi ;;
    esac
    if [ -n "$h_cause" ]; then
        printf 'slurmstepd-%s: error: execve(): %s: %s\n' "${SLURMD_NODENAME:-node}" "$1" "$h_cause" >&2
        exit 2
    fi
    # shellcheck disable=SC2086
    if [ -n "$h_script" ]; then exec "$h_tool" $h_flags "$h_script" "$@"; fi
    [ -z "$h_signals" ] || set -- "$h_signals" --default-signal=INT,QUIT,HUP,PIPE "$@"
    [ -z "$h_setsid" ] || set -- "$h_setsid" "$@"
    exec "$@"
}

h_enter() { # DIRECTORY: go there, as a job does
    # The private directory of the job on another of its nodes: ours stands for it.
    case $1 in */a/*.d) if [ ! -d "$1" ] && [ -d "$SSHQ_DIR.d" ]; then set -- "$SSHQ_DIR.d"; fi ;; esac
    if [ -n "$1" ] && ! cd -- "$1" 2>/dev/null; then
        if [ -d "$1" ]; then h_cause='Permission denied'; elif [ -e "$1" ]; then h_cause='Not a directory'; else h_cause='No such file or directory'; fi
        printf "slurmstepd-%s: error: couldn't chdir to \`%s': %s: going to /tmp instead\n" "${SLURMD_NODENAME:-node}" "$1" "$h_cause" >&2
        cd /tmp || cd /
    fi
    export PWD
}

h_be_part() { # in the process that becomes the part
    trap - HUP INT QUIT USR1 USR2 ALRM TERM
    exec 9<&-
    [ -z "$part_umask" ] || umask "$part_umask"
    exec >>"${part_out:-$h_part/out}" || exit 1
    case $part_err in
    -) exec 2>&1 ;;
    *) exec 2>>"${part_err:-$h_part/err}" ;;
    esac
    case $part_in in
    feed) exec <"$h_part/fifo" ;;
    *) exec <"${part_in:-/dev/null}" || exit 1 ;;
    esac
    h_enter "$part_work"
    h_attempt=$SSHQ_ATTEMPT h_own_dir=$SSHQ_DIR
    part_environ
    export SSHQ_ATTEMPT="$h_attempt" SSHQ_DIR="$h_own_dir"
    [ ! -d "${h_own_dir%/a/*}/bin" ] || export PATH="${h_own_dir%/a/*}/bin:$PATH"
    with_part h_become
}

h_note_end() { # TOKEN CODE
    printf '%s\n' "$2" >|"$h_part/rc.new" && mv -f "$h_part/rc.new" "$h_part/rc"
    h_tell "$1" ended "$2"
    [ "$part_main" != 1 ] || h_end_with "$2"
}

h_end_with() { # CODE: of this job, unless it was told another before
    set -C
    { printf '%s\n' "$1" >"$h_parts/end"; } 2>/dev/null
    set +C
    printf 'end\n' 1<>"$h_parts/bell"
}

h_run_part() { # TOKEN: in a process of its own, which stays until the part has ended
    trap 'h_woken=1' HUP INT QUIT USR1 USR2 ALRM
    h_part=$h_parts/$1 h_feeder=''
    part_work='' part_out='' part_err='' part_in='' part_umask='' part_whole='' part_pty='' part_main=''
    # shellcheck disable=SC1091
    . "$h_part/req"
    if [ "$part_whole" != 1 ]; then
        h_note_end "$1" 1
        return
    fi
    if [ "$part_in" = feed ]; then h_open_feed "$h_part" "$1" || part_in=''; fi
    h_be_part &
    h_pid=$!
    h_is_there "$h_pid"
    printf '%s %s\n' "$h_pid" "${h_start:-0}" >|"$h_part/pid"
    h_tell "$1" started "$h_pid"
    h_reap "$h_pid"
    [ -z "$h_feeder" ] || kill -s KILL "$h_feeder" 2>/dev/null
    h_note_end "$1" "$h_code"
}

# A terminal is no child of this process, so the kernel tells of its end: the last who holds the leash is gone.
h_hold_leash() { # TOKEN
    trap : HUP INT QUIT USR1 USR2 ALRM
    h_part=$h_parts/$1 part_main='' h_code=''
    [ ! -e "$h_part/main" ] || part_main=1
    h_give_up "$1" &
    h_feeder=$!
    read -r h_code <"$h_part/leash" || h_code=129
    kill -s KILL "$h_feeder" 2>/dev/null
    h_note_end "$1" "${h_code:-129}"
}

h_give_up() { # TOKEN: nobody came
    exec 9<&-
    sleep 60 9<&-
    set -C
    if { true >"$h_parts/$1/go"; } 2>/dev/null; then printf '1\n' >"$h_parts/$1/leash"; fi
}

h_take() { # TOKEN
    [ -s "$h_parts/$1/req" ] || return 0
    if [ -p "$h_parts/$1/leash" ]; then # the terminal itself makes `go`
        [ ! -e "$h_parts/$1/held" ] || return 0
        true >|"$h_parts/$1/held"
        h_hold_leash "$1" </dev/null 9<&- &
        return 0
    fi
    set -C
    if { true >"$h_parts/$1/go"; } 2>/dev/null; then
        set +C
        h_run_part "$1" </dev/null &
    fi
    set +C
    jobs >/dev/null 2>&1 # reaps those that have ended
}

h_look() { # at all that was asked before we listened
    for h_one in "$h_parts"/*/req; do
        h_one=${h_one%/req}
        if [ -e "$h_one/req" ]; then h_take "${h_one##*/}"; fi
    done
}

h_signal_parts() { # SIGNAL: fails when none is there
    h_any=1
    for h_one in "$h_parts"/*/pid; do
        h_pid=
        { read -r h_pid h_born <"$h_one"; } 2>/dev/null || continue
        if [ -e "${h_one%/pid}/rc" ] || ! h_is_there "$h_pid" || [ "$h_start" != "$h_born" ]; then continue; fi
        h_any=0
        kill -s "$1" "-$h_pid" || kill -s "$1" -- "-$h_pid" || kill -s "$1" "$h_pid"
    done
    return "$h_any"
} 2>/dev/null

h_hold() { # the holder itself
    h_parts=$SSHQ_DIR.parts
    trap : HUP INT QUIT USR1 USR2 ALRM
    [ -d "$h_parts" ] || mkdir "$h_parts" 2>/dev/null
    [ -p "$h_parts/bell" ] || mkfifo "$h_parts/bell" 2>/dev/null
    exec 9<>"$h_parts/bell" || exit 1
    export -p >|"$h_parts/environ.new" && mv -f "$h_parts/environ.new" "$h_parts/environ"
    h_find_tools
    h_look
    while [ ! -e "$h_parts/end" ]; do
        h_word=
        read -r h_word <&9 || continue
        case $h_word in '' | end | *[!A-Za-z0-9]*) ;; *) h_take "$h_word" ;; esac
    done
    h_status=
    read -r h_status <"$h_parts/end"
    h_tries=0
    while h_signal_parts TERM && [ "$h_tries" -lt 20 ]; do
        sleep 0.1 2>/dev/null || sleep 1
        h_tries=$((h_tries + 1))
    done
    h_signal_parts KILL
    case $h_status in '' | *[!0-9]*) h_status=1 ;; esac
    exit "$h_status"
}
