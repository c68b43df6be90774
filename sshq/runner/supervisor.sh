#!/bin/sh
# The supervisor: starts one job, waits for it, enforces its limit and its cancel, writes its record.  See runner.sh.
# shellcheck disable=SC2034,SC2153 # variables shared with the other parts of the program

# ---------------------------------------------------------------- the supervisor

# supervise ID END-ID: what the runner writes to the spawner.  From here on what is said on standard error nobody reads, until
# the job's process has its own: a redirection for each thing that may fail would be ten system calls each.
supervise() {
    [ $# -eq 2 ] && [ "$2" = "END-$1" ] || return 0
    now
    FORKED=$UPTIME
    supervise_job "$1" </dev/null & # the rest is /dev/null already
    jobs # reaps supervisors that ended: dash and busybox do it nowhere else
}

forget_job() { # what each supervisor starts with: set once, in the spawner, as it is one
    ID='' F='' ASKED='' TICK='' WOKEN='' TERMINATED=0 ENDING='' SENT='' SURVIVORS='' WATCHDOG='' LEASE_DOG='' STOPPED='' BEGAN=0
    JOB='' FORKLESS='' RECORD='' JOB_NUMBER=1 ME='' MY_START='' ENDED='' STATUS='' CODE='' KIN='' STAGE='' UNSTARTED='' LOST=''
    USER_CPU='' SYSTEM='' LIST='' OOM='' OOM_BEFORE='' KEY='' VALUE='' OUT='' ERR='' WORK='' IN='' TMP='' PID='' START=''
    LIMIT_AT='' JOB_START='' FLOOR='' FLOOR_OPEN='' VERSION='' OTHER='' ME_PID='' ME_START='' job_script=''
    job_format='' job_id='' job_seq='' job_limit='' job_grace=30 job_warn_signal='' job_out='' job_err='' job_in=/dev/null
    job_warn_s=0 job_warn_batch=0 job_node='' job_work='' job_append=0 job_umask=022 job_own_home=0 job_nice=0 job_slot='' job_tree=''
    job_below='' job_has_script=0 job_limits='' job_whole='' job_lease='' job_lease_from=0 job_lease_grace=0
}

supervise_job() {
    ID=$1 F=a/$1
    trap 'ASKED=1 WOKEN=1' USR1     # look at ID.cancel
    trap 'TICK=1 WOKEN=1' USR2      # a deadline may have passed
    trap 'TERMINATED=1 WOKEN=1' TERM # a shutdown, or somebody by hand: the job is still ours to watch
    trap : HUP PIPE XFSZ            # not '': that the job would inherit
    # bash as sh forgets a status that it collected while a trap ran; as itself it keeps it.
    [ -z "${BASH_VERSION:-}" ] || eval 'set +o posix'
    name_self && ME=$PID MY_START=$START BEGAN=$UPTIME
    [ -e "$F.exit" ] || exit 1 # collected meanwhile
    printf '1 %s %s %s\n' "$ME" "$MY_START" "$BOOT" >|"$F.sup" || {
        ring "N $ID space"
        exit 1
    }
    # shellcheck disable=SC1090
    . "./$F.req"
    [ "$job_format$job_whole" = 11 ] || exit 1 # damaged: nothing has started, and a fence will say so
    if [ -e "$F.limit" ] && take_limit; then job_limit=$NEW; fi
    # The arbiter, then the floor: in this order a launch that was settled and collected cannot start (the model shows it).
    if ! true >"$F.go"; then
        ring "N $ID go-lost"
        exit 1
    fi
    [ -e "$F.exit" ] || exit 1 # the spool was wiped in between: this `go` decides nothing
    count_oom
    OOM_BEFORE=$OOM
    if is_settled "$job_seq"; then
        write_record never - floor
    elif [ -n "$ASKED" ] || [ -e "$F.cancel" ]; then
        write_record never - cancelled
    elif [ -n "$job_lease" ] && ! lease_lasts; then # the order was long on its way: by now nobody may believe that it runs
        write_record never - lease
    else
        watch_job
    fi
    leave
}

leave() {
    [ -z "$RECORD" ] || ring "X $RECORD"
    bury_watch
    trap - EXIT
    exit 0
}

watch_job() {
    LIMIT_AT='' JOB_START='' LOST=''
    trap go_on_without_forks EXIT
    # The job's process is this shell's child; so is nobody else, except the watchdogs of limit and lease: those first,
    # for no job may run whose limit (or lease) nobody can enforce.
    if [ -n "$job_limit" ]; then
        LIMIT_AT=$((${BEGAN%.*} + job_limit)) JOB_NUMBER=2
        start_watch "$job_limit" "$job_warn_signal"
    fi
    if [ -n "$job_lease" ]; then
        JOB_NUMBER=$((JOB_NUMBER + 1))
        start_lease
    fi
    now
    FORKED=$UPTIME
    run_job &
    JOB=$!
    await_job
}

# A shell that cannot fork ends itself (dash and busybox do).  That is what a fork bomb of the same user makes of it, and maybe
# the bomb is to end just now: so from here on nothing needs a process.
go_on_without_forks() {
    trap - EXIT
    FORKLESS=1
    if [ -z "$JOB" ]; then
        stop_dogs
        write_record never - fork
        leave
    fi
    if [ -n "$ENDING$job_lease" ]; then
        ENDING=${ENDING:-lease} # which nobody could watch any more
        kill_now
        finish_or_await
    else
        await_job
    fi
    leave
}

# is_crowded: are there no more processes to be had for this user?  Without trying: a fork that fails ends dash, and bash, ksh
# and zsh take it worse.
is_crowded() {
    MOST=''
    while read -r KEY VALUE MOST _; do
        [ "$KEY $VALUE" != 'Max processes' ] || break
    done </proc/self/limits
    is_number "$MOST" || return 1
    COUNT=4
    for PROCESS in /proc/[0-9]*; do
        # shellcheck disable=SC3067
        [ ! -O "$PROCESS" ] || COUNT=$((COUNT + 1))
    done
    [ "$COUNT" -gt "$MOST" ]
} 2>/dev/null

kill_now() {
    case " $SENT " in *' KILL '*) ;; *) SENT="$SENT KILL" ;; esac
    now
    DEADLINE=${UPTIME%.*}
    signal_all "$ID" "$JOB" KILL
}

finish_or_await() { # the job may have been waited for already
    if [ -n "$STATUS" ]; then finish; else await_job; fi
}

await_job() {
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
    stop_dogs
    finish
}

# The job is gone, but a trap cut the `wait` short, so CODE may be the trap's.  Asked again, with nobody listening to signals
# any more, a shell gives the job's status; or 127 if it has given it before and forgotten it: then CODE was it.  bash and ksh
# can lose it altogether when a signal comes at that very moment: then it is no success, and the record says `lost`.
collect_status() {
    case ${STAT##*') '} in Z*) REAPED='' ;; *) REAPED=1 ;; esac
    # A bash that lost it takes the job for alive and waits for any child: there must be none, or a cancel hangs for ever.
    stop_dogs
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
    [ "$STATUS" -lt 0 ] || return 0
    STATUS=1 LOST=lost
    if [ -n "$ASKED" ] && [ -z "$ENDING" ]; then # the signal was a cancel: then that is what the job's end is called
        now
        ENDING=cancel DEADLINE=${UPTIME%.*}
    fi
}

# A shell says 128+n for a job that a signal ended and for one that said `exit 128+n`.  dash and busybox still know better
# when asked for their jobs: `Done(130)` or `Killed`.  Told apart, a code becomes 512+code and a signal 256+n (as ksh has it).
tell_signal_from_code() {
    { [ "$STATUS" -gt 128 ] && [ "$STATUS" -le 192 ]; } || return 0
    { jobs >|"$F.seen"; } 2>/dev/null || return 0
    while read -r LINE; do
        case $LINE in
        "[$JOB_NUMBER]"*'Done('* | "[$JOB_NUMBER]"*[Ee]'xit '*) STATUS=$((STATUS + 512)) ;;
        "[$JOB_NUMBER]"*) STATUS=$((STATUS + 128)) ;;
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

find_tmp() { # sets TMP, the temporary directory of this job's slot; false where it has none
    TMP=''
    [ -n "$job_slot" ] && is_id "$SPOOL_ID" || return 1
    TMP=/tmp/sshq-$SPOOL_ID/$job_slot
}

clear_tmp() { # what is in TMP goes, and it with it; by builtins where there is nothing
    # shellcheck disable=SC3067
    if [ ! -d "$TMP" ] || [ -L "$TMP" ] || [ ! -O "$TMP" ] || [ -L "${TMP%/*}" ]; then return 0; fi
    for OTHER in "$TMP"/* "$TMP"/.[!.]* "$TMP"/..?*; do
        [ -e "$OTHER" ] || [ -L "$OTHER" ] || continue
        # A process that cannot be had must not cost a supervisor what it knows: the next job of the slot finds it.
        if [ -n "$FORKLESS" ] || is_crowded; then return 0; fi
        rm -rf "$TMP" || { chmod -R u+rwX "$TMP" && rm -rf "$TMP"; }
        return
    done
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
        [ ! -e "$F.box" ] || end_box "$ID"
    fi
    if find_tmp; then clear_tmp; fi
    # Only what the job's process itself wrote says that it did not start: that a file is gone may be an accident of the spool.
    STAGE='' UNSTARTED=''
    if [ "$STATUS$ENDING" = 0 ] && [ -s "$F.run" ]; then # it does not end with 0 but as the job
        STAGE=run
    else
        read -r _ _ _ _ _ STAGE 2>/dev/null <"$F.run" || :
    fi
    case $STAGE in run | output) ;; *) read -r UNSTARTED 2>/dev/null <"$F.exit" || : ;; esac
    case $STAGE:$UNSTARTED in
    run:*) write_record "${ENDING:-exit}" "$STATUS" "$LOST" ;;
    output:*) write_record output "$STATUS" ;;
    *:unstarted) if [ -n "$ENDING" ]; then write_record never - cancelled; else write_record never - space; fi ;;
    *)
        case $ENDING in cancel | lease) STAGE=ended ;; esac
        if [ "$STAGE" = ended ] && [ ! -e "$F.run" ]; then # killed before it had named itself
            write_record never - cancelled
        else
            write_record "${ENDING:-exit}" "$STATUS" "${LOST:-unnamed}"
        fi
        ;;
    esac
}

act() { # a request or a deadline: both only set flags, the clock decides
    now
    AT=${UPTIME%.*}
    if [ -n "$ASKED" ]; then
        ASKED='' SIGNAL='' GRACE='' WHY=''
        read -r _ SIGNAL GRACE WHY _ 2>/dev/null <"$F.cancel"
        { printf '1 %s %s\n' "$SIGNAL" "$GRACE" >|"$F.seen"; } 2>/dev/null # or the runner knocks again
        is_number "$GRACE" || SIGNAL=TERM GRACE=$job_grace
        case $WHY in requeue) WHY=' DUE TO JOB REQUEUE' ;; *) WHY='' ;; esac
        begin_ending cancel "$SIGNAL" "$GRACE" "$WHY"
    fi
    if [ -n "$TICK" ]; then
        TICK=''
        if [ -z "$ENDING" ] && [ -e "$F.limit" ] && take_limit; then change_limit; fi
        if [ -z "$ENDING" ]; then
            if [ -n "$LIMIT_AT" ] && [ "$AT" -ge "$LIMIT_AT" ]; then
                begin_ending timeout TERM "$job_grace" ' DUE TO TIME LIMIT'
            fi
            [ -n "$ENDING" ] || [ -z "$job_lease" ] || check_lease
        elif [ "$AT" -ge "$DEADLINE" ]; then
            signal_all "$ID" "$JOB" KILL
            case " $SENT " in *' KILL '*) ;; *) SENT="$SENT KILL" ;; esac
        fi
    fi
}

take_limit() { # sets NEW to the limit that was asked for since, empty for none; false if there is nothing new
    NEW=''
    read -r _ NEW _ <"$F.limit" || return 1
    is_number "$NEW" || [ "$NEW" = none ] || return 1
    printf '1 %s\n' "$NEW" >|"$F.limited" # or the runner knocks again
    NEW=${NEW#none}
    [ "$NEW" != "$job_limit" ]
} 2>/dev/null

change_limit() {
    # The warning comes once.
    [ -z "$LIMIT_AT" ] || [ "$AT" -lt $((LIMIT_AT - job_warn_s)) ] || job_warn_signal=''
    job_limit=$NEW LIMIT_AT=''
    [ -z "$NEW" ] || LIMIT_AT=$((${BEGAN%.*} + NEW))
    # With no process to be had for another watchdog, the old one goes on knocking.
    if [ -n "$FORKLESS" ] || is_crowded; then return; fi
    stop_watch
    [ -n "$LIMIT_AT" ] || return 0
    if [ "$LIMIT_AT" -gt "$AT" ]; then start_watch $((LIMIT_AT - AT)) "$job_warn_signal"; else TICK=1; fi
}

begin_ending() { # HOW SIGNAL GRACE NOTE: the first asks the job to end, a later one may only shorten its grace
    if [ -z "$FORKLESS" ] && is_crowded; then FORKLESS=1; fi
    if [ -n "$FORKLESS" ]; then # nobody could wake us when the grace is over
        ENDING=${ENDING:-$1}
        kill_now
        return
    fi
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
    stop_dogs
    start_watch $((DEADLINE - AT)) ''
}

# The watchdog: a subshell and one sleep.  It only knocks; and it stands in for a supervisor that was killed.
start_watch() { # SECONDS WARN_SIGNAL
    watch "$1" "$2" &
    WATCHDOG=$!
}

stop_watch() { stop_dog "$WATCHDOG" && WATCHDOG=''; }

stop_dogs() {
    stop_watch
    stop_dog "$LEASE_DOG" && LEASE_DOG=''
}

stop_dog() {
    [ -n "$1" ] && look "$1" && [ "$PARENT" = "$ME" ] && kill -s TERM "$1" && STOPPED="$STOPPED $PID"
    return 0
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

find_job() { # the watchdog is older than the job
    [ -n "$JOB" ] || read -r _ JOB JOB_START _ 2>/dev/null <"$F.run" || return 1
    is_number "$JOB" && is_number "$JOB_START"
}

watch() {
    GONE='' SLEEP=''
    trap - EXIT
    trap 'GONE=1' TERM
    if [ -n "$2" ]; then
        FIRST=$(($1 - job_warn_s))
        [ "$FIRST" -gt 0 ] || FIRST=0
        doze "$FIRST"
        if find_job && job_lives; then
            if [ "$job_warn_batch" = 1 ]; then signal_batch "$ID" "$JOB" "$2"; else signal_steps "$ID" "$JOB" "$2"; fi
        fi
        doze $(($1 - FIRST))
    else
        doze "$1"
    fi
    knock_or_stand_in "$job_grace"
}

knock_or_stand_in() { # GRACE
    while is_alive "$ME" "$MY_START"; do
        kill -s USR2 "$ME"
        kill -s CONT "$ME" # somebody may have stopped it
        doze 2
    done
    # Nobody is left to enforce it.  No record: nobody knows how the job ended.
    if find_job && job_lives; then
        now
        signal_all "$ID" "$JOB" TERM
        end_all "$ID" "$JOB" $((${UPTIME%.*} + $1))
    fi
    exit 0
}

doze() { # SECONDS; a TERM at any point ends the watchdog and its sleep
    [ -z "$GONE" ] || exit 0
    sleep "$1" &
    SLEEP=$!
    trap 'GONE=1; kill -s KILL "$SLEEP"; exit 0' TERM
    if [ -n "$GONE" ]; then
        kill -s KILL "$SLEEP"
        exit 0
    fi
    wait "$SLEEP"
    trap 'GONE=1' TERM
}

output_paths() { # sets OUT ERR WORK, absolute; ERR empty = joined
    WORK=${job_work:-$SPOOL/$F.d${job_below:+/$job_below}}
    case $job_out in '') OUT=$SPOOL/$F.out ;; /*) OUT=$job_out ;; *) OUT=$WORK/$job_out ;; esac
    case $job_err in '' | /*) ERR=$job_err ;; *) ERR=$WORK/$job_err ;; esac
    [ "$ERR" != "$OUT" ] || ERR=''
}

write_notice() { # Slurm's closing line, where the job's stderr goes
    [ -n "$job_node" ] || return 0
    output_paths
    WHEN=$(date +%Y-%m-%dT%H:%M:%S)
    # In a child, waited for a second at most: the file may be on a file server that hangs.
    printf 'slurmstepd-%s: error: *** %s %s ON %s CANCELLED AT %s%s ***\n' \
        "$job_node" "${NOTICE_OF:-JOB}" "$job_id" "$job_node" "$WHEN" "$1" >>"${ERR:-$OUT}" &
    NOTICE=$!
    TRIES=0
    while look "$NOTICE" && [ "$TRIES" -lt 60 ]; do
        TRIES=$((TRIES + 1))
        [ "$TRIES" -le 50 ] || nap
    done
    # Not left behind: it holds the lock of the directory, for which then even a job that was killed waits in vain.
    [ "$TRIES" -lt 60 ] || kill -s KILL "$NOTICE"
} 2>/dev/null

# write_record HOW STATUS [WHY]: one line, twice, in place, by builtins: it needs no space, no process and no rename.
write_record() {
    [ "$2" = - ] || [ "$2" -le 128 ] || [ -n "$ENDING" ] || [ "$1" != exit ] || set -- signal "$2" "${3:-}"
    [ -n "${ENDED:-}" ] || { now && ENDED=$UPTIME; }
    SYSTEM=- USER_CPU=- RECORD=''
    # Without any of its files a launch was collected: nobody asks for its record any more.
    if [ ! -e "$F.exit" ] && [ ! -e "$F.go" ] && [ ! -e "$F.run" ]; then return 0; fi
    { times; } 1<>"$F.exit"
    { read -r _ && read -r USER_CPU SYSTEM; } <"$F.exit"
    LIST=''
    for SIGNAL in $SENT; do LIST="$LIST${LIST:+,}$SIGNAL"; done
    RECORD="1 $ID how=$1 status=$2 why=${3:--} sent=${LIST:--} term=$TERMINATED start=$BEGAN end=$ENDED"
    RECORD="$RECORD began=$((${BEGAN%.*} + WALL0)) ended=$((${ENDED%.*} + WALL0)) user=${USER_CPU:--} sys=${SYSTEM:--}"
    RECORD="$RECORD boot=$BOOT left=${SURVIVORS:--}"
    case $2$ENDING in
    137 | 265 | 393) # a KILL that was not ours
        count_oom
        if [ "$OOM" != "$OOM_BEFORE" ] || [ -e "$F.boxd/oom" ]; then RECORD="$RECORD oom=1"; fi
        ;;
    esac
    if [ -f "$F.image" ] && read -r IMAGE <"$F.image"; then
        case $IMAGE in '' | *[!0-9a-f]*) ;; *) [ ${#IMAGE} -gt 128 ] || RECORD="$RECORD image=$IMAGE" ;; esac
    fi
    for STEP in "$F.steps"/[0-9]*; do
        [ ! -e "$STEP" ] || RECORD="$RECORD steps=1" # whoever reads this asks for them before the files go
        break
    done
    put_record || keep_record
}

count_oom() { # sets OOM
    OOM=0
    [ -n "${OOM_FILE:-}" ] || return 0
    while read -r KEY VALUE; do
        [ "$KEY" != oom_kill ] || OOM=$VALUE
    done <"$OOM_FILE"
}

put_record() { { printf '%s\n%s\n' "$RECORD" "$RECORD"; } 1<>"$F.exit"; }

# The file system became read-only, or is full and copies on write: what this process knows would be lost with it, so it stays
# until it can write it down, or until nobody wants to know any more.
keep_record() {
    ring "X $RECORD"
    PAUSE=1
    while [ -z "$FORKLESS" ]; do
        sleep "$PAUSE"
        if [ ! -e "$F.exit" ] && [ ! -e "$F.go" ]; then return; fi
        if put_record; then return; fi
        [ "$PAUSE" -ge 30 ] || PAUSE=$((PAUSE * 2))
    done
}
