#!/bin/sh
# The supervisor: starts one job, waits for it, enforces its limit and its cancel, writes its record.  See runner.sh.
# shellcheck disable=SC2034,SC2153 # variables shared with the other parts of the program

# ---------------------------------------------------------------- the supervisor

# supervise ID END-ID: what the runner writes to the spawner.
supervise() {
    [ $# -eq 2 ] && [ "$2" = "END-$1" ] || return 0
    supervise_job "$1" </dev/null >/dev/null 2>&1 &
    jobs >/dev/null 2>&1 # reaps supervisors that ended: dash and busybox do it nowhere else
}

supervise_job() {
    ID=$1 F=a/$1 ASKED='' TICK='' WOKEN='' TERMINATED=0 ENDING='' SENT='' SURVIVORS='' WATCHDOG='' STOPPED='' BEGAN=0
    trap 'ASKED=1 WOKEN=1' USR1     # look at ID.cancel
    trap 'TICK=1 WOKEN=1' USR2      # a deadline may have passed
    trap 'TERMINATED=1 WOKEN=1' TERM # a shutdown, or somebody by hand: the job is still ours to watch
    trap : HUP PIPE XFSZ            # not '': that the job would inherit
    # bash as sh forgets a status that it collected while a trap ran; as itself it keeps it.
    [ -z "${BASH_VERSION:-}" ] || eval 'set +o posix'
    look self && ME=$PID MY_START=$START
    [ -e "$F.exit" ] || exit 1 # collected meanwhile
    printf '1 %s %s %s\n' "$ME" "$MY_START" "$BOOT" >|"$F.sup" || {
        ring "N $ID space"
        exit 1
    }
    job_format='' job_id='' job_seq='' job_limit='' job_grace=30 job_warn_signal='' job_out='' job_err='' job_in=/dev/null
    job_warn_s=0 job_warn_batch=0 job_node='' job_work='' job_append=0 job_umask=022 job_own_home=0 job_nice=0 job_slot=''
    # shellcheck disable=SC1090
    . "./$F.req"
    [ "$job_format" = 1 ] || exit 1
    # The arbiter, then the floor: in this order a launch that was settled and collected cannot start (the model shows it).
    if ! { true >"$F.go"; } 2>/dev/null; then
        ring "N $ID go-lost"
        exit 1
    fi
    [ -e "$F.exit" ] || exit 1 # the spool was wiped in between: this `go` decides nothing
    now
    BEGAN=$UPTIME
    if is_settled "$job_seq"; then
        write_record never - floor
    elif [ -n "$ASKED" ] || [ -e "$F.cancel" ]; then
        write_record never - cancelled
    else
        watch_job
    fi
    [ -z "$RECORD" ] || ring "X $RECORD"
    bury_watch
    exit 0
}

watch_job() {
    LIMIT_AT='' JOB_START='' LOST=''
    # The job's process is this shell's child; so is nobody else, except the watchdog when there is a limit.
    run_job &
    JOB=$!
    if [ -n "$job_limit" ]; then
        LIMIT_AT=$((${BEGAN%.*} + job_limit))
        start_watch "$job_limit" "$job_warn_signal"
    fi
    STATUS=''
    while :; do
        WOKEN=''
        while [ -n "$ASKED$TICK" ]; do act; done # also what came while acting
        wait "$JOB"
        CODE=$?
        if [ -z "$WOKEN" ] && [ "$CODE" -le 128 ] && [ ! -e "/proc/$JOB" ]; then STATUS=$CODE && break; fi
        # A trap that runs ends `wait`, with 128+n or (ksh) anything; zsh also returns when the job is stopped.  Whatever it
        # says: who lives has not ended.
        if job_lives; then
            [ -n "$WOKEN" ] || sleep 1
            continue
        fi
        if [ -z "$WOKEN" ] && [ "$CODE" -le 128 ]; then STATUS=$CODE && break; fi
        collect_status
        break
    done
    tell_signal_from_code
    stop_watch
    finish
}

# The job is gone, but a trap cut the `wait` short, so CODE may be the trap's.  Asked again, with nobody listening to signals
# any more, a shell gives the job's status; or 127 if it has given it before and forgotten it: then CODE was it.  bash and ksh
# can lose it altogether when a signal comes at that very moment: then it is no success, and the record says `lost`.
collect_status() {
    case ${STAT##*') '} in Z*) REAPED='' ;; *) REAPED=1 ;; esac
    # A bash that lost it takes the job for alive and waits for any child: there must be none, or a cancel hangs for ever.
    stop_watch
    bury_watch
    trap '' USR1 USR2
    TRIES=0
    while [ "$TRIES" -lt 3 ]; do
        TRIES=$((TRIES + 1))
        wait "$JOB"
        STATUS=$?
        [ "$STATUS" = "$CODE" ] || break # else: the trap's once more (bash), or really the job's
    done
    if [ "$STATUS" = 127 ] && [ -n "$REAPED" ]; then
        STATUS=$CODE
        if [ -n "$WOKEN" ] && [ -n "${BASH_VERSION:-}${KSH_VERSION:-}" ]; then STATUS=-1; fi
    fi
    if [ "$STATUS" -lt 0 ]; then STATUS=1 LOST=lost; fi
}

# A shell says 128+n for a job that a signal ended and for one that said `exit 128+n`.  dash and busybox still know better
# when asked for their jobs: `Done(130)` or `Killed`.  Told apart, a code becomes 512+code and a signal 256+n (as ksh has it).
tell_signal_from_code() {
    { [ "$STATUS" -gt 128 ] && [ "$STATUS" -le 192 ]; } || return 0
    { jobs >|"$F.seen"; } 2>/dev/null || return 0
    while read -r LINE; do
        case $LINE in
        '[1]'*'Done('* | '[1]'*[Ee]'xit '*) STATUS=$((STATUS + 512)) ;;
        '[1]'*) STATUS=$((STATUS + 128)) ;;
        *) continue ;;
        esac
        break
    done 2>/dev/null <"$F.seen"
}

# Until it has named itself it is known by its number alone, which is ours as long as nobody else waits for it.
job_lives() {
    [ -n "$JOB_START" ] || read -r _ _ JOB_START _ 2>/dev/null <"$F.run" || { look "$JOB" && [ "$PARENT" = "$ME" ] && return 0; }
    is_alive "$JOB" "$JOB_START"
}

end_steps() { # the script is over: so are its steps
    find_steps "$ID"
    signal_tasks KILL
    for PROCESS in $SRUNS $WAITERS; do kill -s KILL "$PROCESS"; done
} 2>/dev/null

finish() {
    now
    ENDED=$UPTIME
    if [ -n "$ENDING" ]; then
        end_all "$ID" "$JOB" "$DEADLINE"
    else
        group_kill KILL "$JOB" # what the job left behind in its group; who left the group, a sweep finds
        [ ! -d "$F.steps" ] || end_steps
    fi
    STAGE=''
    read -r _ _ _ _ _ STAGE 2>/dev/null <"$F.run" || STAGE="unset"
    case $STAGE in
    run) write_record "${ENDING:-exit}" "$STATUS" "$LOST" ;;
    output) write_record output "$STATUS" ;;
    *) # it had not yet named itself, and who has not does not start
        if [ -n "$ENDING" ]; then write_record never - cancelled; else write_record never - space; fi
        ;;
    esac
}

act() { # a request or a deadline: both only set flags, the clock decides
    now
    AT=${UPTIME%.*}
    if [ -n "$ASKED" ]; then
        ASKED='' SIGNAL='' GRACE=''
        read -r _ SIGNAL GRACE _ 2>/dev/null <"$F.cancel"
        { printf '1 %s %s\n' "$SIGNAL" "$GRACE" >|"$F.seen"; } 2>/dev/null # or the runner knocks again
        is_number "$GRACE" || SIGNAL=TERM GRACE=$job_grace
        begin_ending cancel "$SIGNAL" "$GRACE" ''
    fi
    if [ -n "$TICK" ]; then
        TICK=''
        if [ -z "$ENDING" ]; then
            if [ -n "$LIMIT_AT" ] && [ "$AT" -ge "$LIMIT_AT" ]; then
                begin_ending timeout TERM "$job_grace" ' DUE TO TIME LIMIT'
            fi
        elif [ "$AT" -ge "$DEADLINE" ]; then
            signal_all "$ID" "$JOB" KILL
            case " $SENT " in *' KILL '*) ;; *) SENT="$SENT KILL" ;; esac
        fi
    fi
}

begin_ending() { # HOW SIGNAL GRACE NOTE: the first asks the job to end, a later one may only shorten its grace
    if [ -z "$ENDING" ]; then
        ENDING=$1
        DEADLINE=$((AT + $3))
        write_notice "$4"
        SENT="$SENT $2"
        if [ "$2" = KILL ]; then signal_all "$ID" "$JOB" KILL; else signal_all "$ID" "$JOB" "$2" CONT; fi # a stopped one is deaf
    elif [ $((AT + $3)) -lt "$DEADLINE" ]; then
        DEADLINE=$((AT + $3))
    else
        return
    fi
    stop_watch
    start_watch $((DEADLINE - AT)) ''
}

# The watchdog: a subshell and one sleep.  It only knocks; and it stands in for a supervisor that was killed.
start_watch() { # SECONDS WARN_SIGNAL
    watch "$1" "$2" &
    WATCHDOG=$!
}

stop_watch() {
    [ -n "$WATCHDOG" ] || return 0
    look "$WATCHDOG" && [ "$PARENT" = "$ME" ] && kill -s TERM "$WATCHDOG" && STOPPED="$STOPPED $PID"
    WATCHDOG=''
}

bury_watch() { # a TERM that meets a shell between its fork and its first trap is lost
    for STOP in $STOPPED; do
        TRIES=0
        while has_memory "$STOP" && [ "$TRIES" -lt 60 ]; do
            TRIES=$((TRIES + 1))
            if [ "$TRIES" -gt 40 ] && look "$STOP" && [ "$PARENT" = "$ME" ]; then
                kill -s TERM "$STOP"
                nap
            fi
        done
    done
}

watch() {
    GONE='' SLEEP=''
    trap 'GONE=1' TERM
    if [ -n "$2" ]; then
        FIRST=$(($1 - job_warn_s))
        [ "$FIRST" -gt 0 ] || FIRST=0
        doze "$FIRST"
        if job_lives; then
            if [ "$job_warn_batch" = 1 ]; then kill -s "$2" "$JOB"; else signal_steps "$ID" "$JOB" "$2"; fi
        fi
        doze $(($1 - FIRST))
    else
        doze "$1"
    fi
    while is_alive "$ME" "$MY_START"; do
        kill -s USR2 "$ME"
        doze 2
    done
    # Nobody is left to enforce it.  No record: nobody knows how the job ended.
    if job_lives; then
        now
        signal_all "$ID" "$JOB" TERM
        end_all "$ID" "$JOB" $((${UPTIME%.*} + job_grace))
    fi
    exit 0
}

doze() { # SECONDS; a TERM at any point ends the watchdog and its sleep
    [ -z "$GONE" ] || exit 0
    sleep "$1" &
    SLEEP=$!
    trap 'kill -s KILL "$SLEEP"; exit 0' TERM
    if [ -n "$GONE" ]; then
        kill -s KILL "$SLEEP"
        exit 0
    fi
    wait "$SLEEP"
    trap 'GONE=1' TERM
}

output_paths() { # sets OUT ERR WORK, absolute; ERR empty = joined
    WORK=${job_work:-$SPOOL/$F.d}
    case $job_out in '') OUT=$SPOOL/$F.out ;; /*) OUT=$job_out ;; *) OUT=$WORK/$job_out ;; esac
    case $job_err in '' | /*) ERR=$job_err ;; *) ERR=$WORK/$job_err ;; esac
    [ "$ERR" != "$OUT" ] || ERR=''
}

write_notice() { # Slurm's closing line, where the job's stderr goes
    output_paths
    WHEN=$(date +%Y-%m-%dT%H:%M:%S)
    # In a child, waited for a second at most: the file may be on a file server that hangs.
    printf 'slurmstepd-%s: error: *** JOB %s ON %s CANCELLED AT %s%s ***\n' \
        "$job_node" "$job_id" "$job_node" "$WHEN" "$1" >>"${ERR:-$OUT}" &
    NOTICE=$!
    TRIES=0
    while look "$NOTICE" && [ "$TRIES" -lt 60 ]; do
        TRIES=$((TRIES + 1))
        [ "$TRIES" -le 50 ] || nap
    done
} 2>/dev/null

# write_record HOW STATUS [WHY]: one line, twice, in place, by builtins: it needs no space, no process and no rename.
write_record() {
    [ "$2" = - ] || [ "$2" -le 128 ] || [ -n "$ENDING" ] || [ "$1" != exit ] || set -- signal "$2" "${3:-}"
    [ -n "${ENDED:-}" ] || { now && ENDED=$UPTIME; }
    SYSTEM=- USER_CPU=- RECORD=''
    [ -e "$F.exit" ] || return 0
    times 1<>"$F.exit"
    { read -r _ && read -r USER_CPU SYSTEM; } <"$F.exit"
    LIST=''
    for SIGNAL in $SENT; do LIST="$LIST${LIST:+,}$SIGNAL"; done
    RECORD="1 $ID how=$1 status=$2 why=${3:--} sent=${LIST:--} term=$TERMINATED start=$BEGAN end=$ENDED"
    RECORD="$RECORD began=$((${BEGAN%.*} + WALL0)) ended=$((${ENDED%.*} + WALL0)) user=${USER_CPU:--} sys=${SYSTEM:--}"
    RECORD="$RECORD boot=$BOOT left=${SURVIVORS:--}"
    printf '%s\n%s\n' "$RECORD" "$RECORD" 1<>"$F.exit"
} 2>/dev/null

# ---------------------------------------------------------------- the job's process, until it is the job

run_job() {
    set +C
    now
    look self
    printf '1 %s %s %s %s run\n' "$PID" "$START" "$BOOT" "$UPTIME" >|"$F.run" || exit 1
    ME_PID=$PID ME_START=$START
    # Only now, named, may it start; and only under a living supervisor, or a listing might already have called it lost.
    # (The seventh line of status; stat is three times as long.)
    while read -r KEY PARENT && [ "$KEY" != PPid: ]; do :; done </proc/self/status
    [ "$PARENT" = "$ME" ] || exit 1
    # shellcheck disable=SC2034 # with_command, of the request, names it
    job_script=$SPOOL/$F.script
    output_paths
    [ -n "$job_out" ] || true >>"$OUT" # while the umask is the spool's
    umask "$job_umask"
    [ -n "$job_work" ] || mkdir -m 700 "$WORK"
    open_streams || {
        printf '1 %s %s %s %s output\n' "$ME_PID" "$ME_START" "$BOOT" "$UPTIME" 1<>"$F.run"
        exit 1
    }
    [ ! -w /proc/self/oom_score_adj ] || printf '500' 2>/dev/null >|/proc/self/oom_score_adj # it dies before its supervisor
    ring "S $ID $ME_PID $ME_START $UPTIME"
    if ! cd -- "$WORK" 2>/dev/null; then
        complain "couldn't chdir to \`$WORK': $(cause "$WORK"): going to /tmp instead"
        cd /tmp || cd /
    fi
    with_command become_job
}

open_file() { # PATH: may it be written?  Empties it unless it is to be appended to, or no ordinary file.
    if [ -e "$1" ] && [ ! -f "$1" ]; then
        [ -w "$1" ] && [ ! -d "$1" ]
    elif [ "$job_append" = 1 ]; then
        { true >>"$1"; } 2>/dev/null
    else
        { true >|"$1"; } 2>/dev/null
    fi
}

open_streams() { # appending always: the closing line of the supervisor must not be overwritten by the job's next one
    case $job_in in /*) IN=$job_in ;; *) IN=$WORK/$job_in ;; esac
    open_file "$OUT" && [ -r "$IN" ] && [ ! -d "$IN" ] || return 1
    [ -z "$ERR" ] || open_file "$ERR" || return 1
    exec <"$IN" >>"$OUT"
    if [ -n "$ERR" ]; then exec 2>>"$ERR"; else exec 2>&1; fi
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
    [ "$SETSID" = setsid ] && set -- "$SETSID_BIN" "$@"
    [ "$SETSID" = perl ] && set -- "$SETSID_BIN" -e "$PERL_SETSID" "$@"
    [ "$SETSID" = python3 ] && set -- "$SETSID_BIN" -I -S -c "$PYTHON_SETSID" "$@"
    # sh starts an asynchronous child with INT and QUIT ignored, and no shell can take that back.
    [ "$SIGNALS" = env ] && set -- "$SIGNALS_BIN" --default-signal=INT,QUIT,HUP,PIPE "$@"
    [ "$SIGNALS" = perl ] && set -- "$SIGNALS_BIN" -e "$PERL_SIGNALS" "$@"
    [ "$SIGNALS" = python3 ] && set -- "$SIGNALS_BIN" -I -S -c "$PYTHON_SIGNALS" "$@"
    if [ "${job_nice:-0}" -gt "$NICE" ] && BIN=$(command -v nice); then set -- "$BIN" -n "$((job_nice - NICE))" "$@"; fi
    set -- "$SPOOL/$F.env" "$job_own_home" "$HOME" "$USER" "$SHELL" "$LOGNAME" "$PWD" "$ID" "$SPOOL/$F" "$job_slot" "$@"
    unset OLDPWD
    # shellcheck disable=SC1090
    [ ! -r "$1" ] || . "$1" 2>/dev/null
    { true >|"$1"; } 2>/dev/null # `rm` would be a process; what it held is gone all the same
    if [ "$2" != 1 ]; then export HOME="$3" USER="$4" SHELL="$5" LOGNAME="$6"; fi
    export PWD="$7" SSHQ_ATTEMPT="$8" SSHQ_DIR="$9"
    [ -z "${10}" ] || export SSHQ_SLOT="${10}"
    [ ! -d "${9%/a/*}/bin" ] || export PATH="${9%/a/*}/bin:$PATH"
    case $SETSID$SIGNALS in *perl*) export PERL_BADLANG=0 ;; esac # or perl, where it is used below, comments on the job's locale in the job's output
    shift 10
    exec "$@"
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
