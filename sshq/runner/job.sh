#!/bin/sh
# The job's process, from its fork to its exec: it names itself, opens the streams, takes the environment.  See runner.sh.
# shellcheck disable=SC2034,SC2153,SC2154 # variables shared with the other parts of the program

# ---------------------------------------------------------------- the job's process, until it is the job

run_job() {
    set +C
    name_self
    trap - EXIT
    printf '1 %s %s %s %s run\n' "$PID" "$START" "$BOOT" "$UPTIME" >|"$F.run" || refuse_start
    if [ ! -s "$F.env" ]; then refuse_start; fi
    if [ "$job_has_script" = 1 ] && [ ! -s "$F.script" ]; then refuse_start; fi
    ME_PID=$PID ME_START=$START
    # Only now, named, may it start; and only under a living supervisor, or a listing might already have called it lost.
    # One of its children: that is a line of a few bytes.  Where the kernel has no such list, or a brother's end left us out of it, the
    # seventh line of status says it as well (stat is three times as long).
    KIN=''
    read -r KIN <"/proc/$ME/task/$ME/children" || : # no newline ends it
    case " $KIN " in
    *" $ME_PID "*) ;;
    *)
        while read -r KEY PARENT && [ "$KEY" != PPid: ]; do :; done </proc/self/status
        [ "$PARENT" = "$ME" ] || exit 1
        ;;
    esac
    # shellcheck disable=SC2034 # with_command, of the request, names it
    job_script=$SPOOL/$F.script
    output_paths
    [ -n "$job_out" ] || true >>"$OUT" # while the umask is the spool's
    make_tmp
    umask "$job_umask"
    [ -n "$job_work$job_tree" ] || mkdir -m 700 "$WORK"
    find_streams || {
        printf '1 %s %s %s %s output\n' "$ME_PID" "$ME_START" "$BOOT" "$UPTIME" 1<>"$F.run"
        exit 1
    }
    [ ! -w /proc/self/oom_score_adj ] || printf '500' >|/proc/self/oom_score_adj # it dies before its supervisor
    ring "S $ID $ME_PID $ME_START $UPTIME"
    # Now standard error is the job's.  Appending always: the closing line of the supervisor must not be overwritten by its next one.
    if [ -n "$ERR" ]; then exec <"$IN" >>"$OUT" 2>>"$ERR"; else exec <"$IN" >>"$OUT" 2>&1; fi
    if ! cd -- "$WORK" 2>/dev/null; then
        complain "couldn't chdir to \`$WORK': $(cause "$WORK"): going to /tmp instead"
        cd /tmp || cd /
    fi
    [ -z "$job_limits" ] || set_limits
    with_command become_job
}

refuse_start() { # its own word, into the place of the record, where no space is needed
    true >|"$F.run"
    printf 'unstarted\n' 1<>"$F.exit"
    exit 1
} 2>/dev/null

# A job's TMPDIR is that of its slot, which is its own while it runs.  Made once and found empty by builtins alone, unless the job
# before was killed with its supervisor; to make and remove one for each job would be two processes.
make_tmp() { # sets TMP; /tmp where none can be had
    if find_tmp && clear_tmp; then
        [ -d "$TMP" ] || mkdir -p "$TMP"
        # shellcheck disable=SC3067
        if [ -O "${TMP%/*}" ] && [ ! -L "${TMP%/*}" ] && [ -O "$TMP" ] && [ ! -L "$TMP" ]; then return; fi
    fi
    TMP=/tmp
}

open_file() { # PATH: may it be written?  Empties it unless it is to be appended to, or no ordinary file.
    if [ -e "$1" ] && [ ! -f "$1" ]; then
        [ -w "$1" ] && [ ! -d "$1" ]
    elif [ "$job_append" = 1 ]; then
        true >>"$1"
    else
        true >|"$1"
    fi
}

find_streams() { # sets IN; may they all be opened?
    case $job_in in /*) IN=$job_in ;; *) IN=$WORK/$job_in ;; esac
    open_file "$OUT" && [ -r "$IN" ] && [ ! -d "$IN" ] || return 1
    [ -z "$ERR" ] || open_file "$ERR"
}

complain() { printf 'slurmstepd-%s: error: %s\n' "$job_node" "$1" >&2; }

cause() { # why PATH cannot be entered
    if [ -d "$1" ]; then
        printf 'Permission denied'
    elif [ -e "$1" ]; then
        printf 'Not a directory'
    else
        printf 'No such file or directory'
    fi
}

become_job() { # INTERPRETER... SCRIPT ARGS...: from the environment's reading on nothing but positional parameters is used
    case $1 in
    */*)
        if [ ! -x "$1" ] || [ -d "$1" ]; then
            if [ -e "$1" ]; then CAUSE='Permission denied'; else CAUSE='No such file or directory'; fi
            complain "execve(): bad interpreter($1): $CAUSE"
            exit 2
        fi
        ;;
    esac
    # sh starts an asynchronous child with INT and QUIT ignored, and no shell can take that back.
    SSHQ_SETSID='' # no variable of a job: such names are dropped
    case $SETSID:$SIGNALS:$1 in
    *:-* | *=*) ;; # to env that would be an option, or a variable
    setsid:env:*) SSHQ_SETSID=$SETSID_BIN SSHQ_ENV=$SIGNALS_BIN ;;
    esac
    if [ -z "$SSHQ_SETSID" ]; then
        [ "$SETSID" = setsid ] && set -- "$SETSID_BIN" "$@"
        [ "$SETSID" = perl ] && set -- "$SETSID_BIN" -e "$PERL_SETSID" "$@"
        [ "$SETSID" = python3 ] && set -- "$SETSID_BIN" -I -S -c "$PYTHON_SETSID" "$@"
        [ "$SIGNALS" = env ] && set -- "$SIGNALS_BIN" --default-signal=INT,QUIT,HUP,PIPE "$@"
        [ "$SIGNALS" = perl ] && set -- "$SIGNALS_BIN" -e "$PERL_SIGNALS" "$@"
        [ "$SIGNALS" = python3 ] && set -- "$SIGNALS_BIN" -I -S -c "$PYTHON_SIGNALS" "$@"
    fi
    if [ "${job_nice:-0}" -gt "$NICE" ] && BIN=$(command -v nice); then set -- "$BIN" -n "$((job_nice - NICE))" "$@"; fi
    set -- "$SPOOL/$F.env" "$job_own_home" "$HOME" "$USER" "$SHELL" "$LOGNAME" "$PWD" "$ID" "$SPOOL/$F" "$job_slot" \
        "$ME_PID" "$TMP" "$@"
    unset OLDPWD
    # shellcheck disable=SC1090
    [ ! -r "$1" ] || . "$1" 2>/dev/null
    { true >|"$1"; } 2>/dev/null # `rm` would be a process; what it held is gone all the same
    [ "${SSHQ_WHOLE:-}" = 1 ] || { printf 'slurmstepd: error: the environment of the job was damaged on the node\n' >&2 && exit 2; }
    unset SSHQ_WHOLE
    if [ "$2" != 1 ]; then export HOME="$3" USER="$4" SHELL="$5" LOGNAME="$6"; fi
    export PWD="$7" SSHQ_ATTEMPT="$8" SSHQ_DIR="$9"
    [ -z "${10}" ] || export SSHQ_SLOT="${10}"
    export SLURM_TASK_PID="${11}"
    [ -n "${TMPDIR:-}" ] || export TMPDIR="${12}" # the submitter may have said another (--export=TMPDIR=/scratch)
    [ ! -d "${9%/a/*}/bin" ] || export PATH="${9%/a/*}/bin:$PATH"
    case $SETSID$SIGNALS in *perl*) export PERL_BADLANG=0 ;; esac # or perl, where it is used below, comments on the job's locale in the job's output
    shift 12
    [ -n "$SSHQ_SETSID" ] || exec "$@"
    # To read the files of the job's locale is a fifth of what the two cost: they are told of none, and the second takes that back.
    if [ -z "${LC_ALL+set}" ]; then
        set -- -u LC_ALL "$@"
        export LC_ALL=C
    fi
    exec "$SSHQ_SETSID" "$SSHQ_ENV" --default-signal=INT,QUIT,HUP,PIPE "$@"
}

# shellcheck disable=SC2016
PERL_SETSID='use POSIX (); delete $ENV{PERL_BADLANG}; POSIX::setsid(); exec {$ARGV[0]} @ARGV; exit 127'
# shellcheck disable=SC2016
PERL_SIGNALS='delete $ENV{PERL_BADLANG}; $SIG{$_} = "DEFAULT" for qw(INT QUIT HUP PIPE); exec {$ARGV[0]} @ARGV; exit 127'
# Python itself ignores PIPE and XFSZ from its start on.
PYTHON_SETSID='import os, signal, sys
for s in (13, 25): signal.signal(s, signal.SIG_DFL)
os.setsid()
os.execvp(sys.argv[1], sys.argv[1:])'
PYTHON_SIGNALS='import os, signal, sys
for s in (1, 2, 3, 13, 25): signal.signal(s, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])'
