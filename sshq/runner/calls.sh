#!/bin/sh
# What a controller may ask: one function a call, named in sshq/runner/calls.py.  See runner.sh.
# shellcheck disable=SC2034,SC2153 # variables shared with the other parts of the program

# ---------------------------------------------------------------- calls: the last word proves that all of it arrived

call_ping() { # TAG END
    [ $# -eq 2 ] && [ "$2" = "END-$1" ] || return 0
    now
    say "P $1 $UPTIME"
}

# call_renew TAG UPTIME END: jobs with a lease are to count it from that moment of this boot, which the caller has read here.
# In place and twice, as a record: it needs no room and no process, and a reader that comes in between reads on.
call_renew() {
    [ $# -eq 3 ] && [ "$3" = "END-$1" ] && is_number "$2" || return 0
    SEEN='' AGAIN='' PLACE=''
    read -r _ SEEN AGAIN PLACE 2>/dev/null <lease || :
    [ "$SEEN" = "$AGAIN" ] && [ "$PLACE" = "$BOOT" ] && is_number "$SEEN" || SEEN=0
    if [ $(($2 + LEASE_BASE)) -gt "$SEEN" ]; then
        SEEN=$(($2 + LEASE_BASE))
        { printf '1 %s %s %s\n' "$SEEN" "$SEEN" "$BOOT"; } 2>/dev/null 1<>lease || {
            say "E $1 renew the lease could not be written"
            return 0
        }
    fi
    now
    say "P $1 $UPTIME"
}

call_load() { # TAG END
    [ $# -eq 2 ] && [ "$2" = "END-$1" ] || return 0
    read -r LOAD1 _ </proc/loadavg
    FREE=-
    while read -r KEY VALUE _; do
        if [ "$KEY" = MemAvailable: ]; then FREE=$VALUE && break; fi
    done </proc/meminfo
    now
    check_room
    say "O $1 $LOAD1 $FREE $UPTIME $ROOM"
}

check_room() { # sets ROOM: could a launch be claimed here now?
    if ! true >|"room.$$"; then
        ROOM="no-files"
        [ -w . ] || ROOM="read-only"
    elif printf '%65535s\n' '' >|"room.$$"; then
        ROOM="ok"
    else
        ROOM="no-space"
    fi
    rm -f "room.$$"
} 2>/dev/null

# call_reserve TAG OLD NEW HIGH "OPEN..." END: a new generation, if the node is where the caller thinks it is.
call_reserve() {
    [ $# -eq 6 ] && [ "$6" = "END-$1" ] || return 0
    read_gen
    OK=0
    if [ "$GEN" = "$2" ] && [ "$3" -gt "$GEN" ]; then
        # The floor first: a crash in between closes only what the store does not hold open.
        raise_floor "$4" "$5" && set_gen "$GEN" "$3" && OK=1
        [ "$OK" = 1 ] || {
            say "E $1 reserve floor or gen could not be written"
            return 0
        }
        GEN=$3
    fi
    read_floor
    say "R $1 $OK $GEN $FLOOR"
}

set_gen() { # OLD NEW
    if [ -e "gen.$1" ]; then mv -f "gen.$1" "gen.$2"; else true >|"gen.$2"; fi
} 2>/dev/null

refuse() { # ID WHY: the rest of the copies that this runner may still hold are refused as well
    REFUSED="$REFUSED$1:$2 "
    say "N $1 $2"
}

# call_part ID N KIND FIRST CHUNK END: a piece of a large launch, ahead of it and in order.
call_part() {
    [ $# -eq 6 ] && [ "$6" = "END-$1" ] && is_id "$1" && is_number "$2" || return 0
    [ ! -e "a/$1.exit" ] && [ ! -e "a/$1.go" ] || return 0 # what is claimed is not written to again
    case $3 in req | env | script) ;; *) return 0 ;; esac
    eval "SEEN=\${part_$1:-0}"
    [ "$2" -eq 1 ] || [ "$SEEN" = $(($2 - 1)) ] || return 0
    if [ "$4" = 1 ]; then printf '%s' "$5" >|"a/$1.$3"; else printf '%s' "$5" >>"a/$1.$3"; fi || set -- "$1" full
    eval "part_$1=\$2"
} 2>/dev/null

# call_launch ID SEQ UID BOOT PARTS REQ ENV SCRIPT END.  Each refusal but `floor` means: it never starts, and no other copy
# of this call starts it either.
call_launch() {
    [ $# -eq 9 ] && [ "$9" = "END-$1" ] && is_id "$1" && is_number "$2" || return 0
    if [ -e "a/$1.exit" ] || [ -f "a/$1.go" ] || [ -s "a/$1.run" ]; then # said before; what has run is never called refused
        entry "$1"
        say "Q $ENTRY"
        return 0
    fi
    case $REFUSED in *" $1:"*)
        STAGE=${REFUSED#*" $1:"}
        say "N $1 ${STAGE%% *}"
        return 0
        ;;
    esac
    if [ -e "a/$1.go" ]; then say "N $1 go-lost" && return 0; fi
    if is_settled "$2"; then say "N $1 floor" && return 0; fi
    if [ "$3" != "$UID_HERE" ]; then refuse "$1" uid && return 0; fi
    if [ "$4" != "$BOOT" ]; then refuse "$1" boot && return 0; fi
    if [ ! -e spool_id ]; then refuse "$1" spool && return 0; fi # it was removed below us
    eval "SEEN=\${part_$1:-0}; unset part_$1"
    if [ "$5" != "$SEEN" ] && [ "$5" != 0 ]; then
        if [ "$SEEN" = full ]; then abandon "$1" space; else abandon "$1" parts; fi
    elif ! printf '%1023s\n' '' >"a/$1.exit" || [ ! -s "a/$1.exit" ]; then
        abandon "$1" space
    elif [ "$5" = 0 ] && ! { printf '%s' "$6" >|"a/$1.req" && printf '%s' "$7" >|"a/$1.env" && printf '%s' "$8" >|"a/$1.script"; }; then
        abandon "$1" space
    elif [ ! -s "a/$1.req" ]; then
        abandon "$1" space
    elif ! ensure_spawner; then
        abandon "$1" spawner
    else
        printf 'supervise %s END-%s\n' "$1" "$1" >&7
    fi
}

abandon() { # ID WHY: nothing was spawned and nothing is left
    refuse "$1" "$2"
    rm -f "a/$1.req" "a/$1.env" "a/$1.script" "a/$1.exit"
}

# call_fence ID SEQ END
call_fence() {
    [ $# -eq 3 ] && [ "$3" = "END-$1" ] && is_id "$1" && is_number "$2" || return 0
    take_fence "$1" "$2"
    case $FENCE in
    won) say "A $1 won" ;;
    forgotten) say "A $1 lost-forgotten" ;;
    lost)
        entry "$1"
        say "A $1 lost $ENTRY"
        ;;
    *) say "E $1 fence could not make a directory" ;;
    esac
}

take_fence() { # ID SEQ: sets FENCE.  The floor after the arbiter: settled there means what the launch was is forgotten.
    FENCE=failed
    if mkdir "a/$1.go"; then
        FENCE=won
        read_record "$1"
        if [ -s "a/$1.run" ] || [ "$RECORD" != - ]; then # the file that stood here was lost, and it has run
            rmdir "a/$1.go"
            true >"a/$1.go"
            FENCE=lost
        elif is_settled "$2"; then
            rmdir "a/$1.go"
            FENCE=forgotten
        fi
    elif [ -d "a/$1.go" ]; then
        FENCE=won
    elif [ -e "a/$1.go" ]; then
        FENCE=lost
    fi
} 2>/dev/null

# call_kill ID SEQ MODE SIGNAL GRACE END
call_kill() {
    [ $# -eq 6 ] && [ "$6" = "END-$1" ] && is_id "$1" && is_number "$2" && is_number "$5" || return 0
    case $3 in
    cancel | requeue) cancel_launch "$@" ;;
    *) signal_launch "$@" ;;
    esac
} 2>/dev/null

cancel_launch() {
    if [ ! -f "a/$1.go" ]; then
        take_fence "$1" "$2"
        case $FENCE in
        won) say "K $1 never" && return ;;
        forgotten) say "K $1 forgotten" && return ;;
        failed) say "E $1 kill could not make a directory" && return ;;
        esac
    fi
    entry "$1"
    if [ "$RECORD" != - ] && [ "$RECORD" != ! ]; then
        say "K $1 gone"
    elif [ "$E_SUP" = 1 ]; then
        printf '1 %s %s %s\n' "$4" "$5" "$3" >|"a/$1.cancel" # if that fails: TERM and the job's own grace
        if kill -s USR1 "$E_BY"; then say "K $1 asked"; else say "K $1 gone"; fi
        kill -s CONT "$E_BY" # somebody may have stopped it
        knock "$1" seen "1 $4 $5" USR1 </dev/null 8>&- &
    elif [ "$E_ALIVE" = 1 ] && ensure_spawner; then
        say "K $1 killing"
        printf 'kill_orphan %s %s %s %s %s END-%s\n' "$1" "$E_PID" "$E_START" "$4" "$5" "$1" >&7
    else
        say "K $1 gone"
    fi
}

# A signal that comes between a shell's look and its `wait` is not heard until the wait ends: knock until it was.
knock() { # ID FILE REQUEST SIGNAL, to the process in E_BY; the file is its answer
    TRIES=0
    while [ "$TRIES" -lt 100 ]; do
        nap
        SEEN=''
        read -r SEEN <"a/$1.$2"
        if [ "$SEEN" = "$3" ] || ! is_ours "$E_BY" "$E_BYSTART" "$BOOT"; then break; fi
        kill -s "$4" "$E_BY"
        kill -s CONT "$E_BY"
        TRIES=$((TRIES + 1))
    done
}

# kill_orphan ID PID START SIGNAL GRACE END: for a job whose supervisor was killed.  In the spawner, so that it survives.
kill_orphan() {
    [ $# -eq 6 ] && [ "$6" = "END-$1" ] || return 0
    kill_orphan_job "$@" </dev/null >/dev/null 2>&1 &
}

kill_orphan_job() {
    trap : HUP PIPE TERM XFSZ
    ID=$1 F=a/$1 JOB=$2 JOB_START=$3 SENT=$4 ENDING=cancel TERMINATED=0 BEGAN=0.00 ENDED=''
    is_alive "$JOB" "$JOB_START" || { box_end "$ID" && exit 0; }
    read_request
    read -r _ _ _ _ BEGAN _ <"$F.run"
    write_notice ''
    now
    is_alive "$JOB" "$JOB_START" || exit 0
    if [ "$4" = KILL ]; then signal_all "$ID" "$JOB" KILL; else signal_all "$ID" "$JOB" "$4" CONT; fi
    end_all "$ID" "$JOB" $((${UPTIME%.*} + $5))
    # It lived until we ended it: that is a record.  Its own status nobody collected.
    if ! is_alive "$JOB" "$JOB_START" && ! read_record "$ID"; then
        write_record cancel - orphan
        ring "X $RECORD"
    fi
    ring "K $ID killed ${SURVIVORS:--}"
    exit 0
}

read_request() { # for a job that runs: a damaged request costs the closing line, not the kill
    job_node=''
    # shellcheck disable=SC1090
    if (. "./$F.req") >/dev/null 2>&1; then . "./$F.req"; fi
}

signal_launch() {
    E_PID='' E_START='' E_BOOT=''
    read -r _ E_PID E_START E_BOOT _ <"a/$1.run"
    if ! is_ours "$E_PID" "$E_START" "$E_BOOT"; then
        say "K $1 gone"
        return
    fi
    case $3 in
    signal-batch)
        case $4 in
        TERM | KILL)
            signal_and_say "$1" "$4" batch </dev/null &
            return
            ;;
        esac
        signal_batch "$1" "$E_PID" "$4"
        ;;
    signal-steps) find_steps "$1" && signal_tasks "$4" ;;
    suspend) signal_all "$1" "$E_PID" STOP ;;
    resume) signal_all "$1" "$E_PID" CONT ;;
    signal | signal-full)
        TASKS='' STARTERS=''
        if [ "$3" = signal ] && [ -d "a/$1.steps" ]; then find_steps "$1"; fi
        if [ -n "$TASKS$STARTERS" ]; then
            signal_tasks "$4"
            say "K $1 signalled"
            return
        fi
        case $4 in
        TERM | KILL) # in a child: the notice is written where a file server may hang
            signal_and_say "$1" "$4" all </dev/null &
            return
            ;;
        esac
        signal_all "$1" "$E_PID" "$4"
        ;;
    esac
    say "K $1 signalled"
}

signal_and_say() { # ID SIGNAL batch|all, of the process in E_PID
    F=a/$1
    read_request
    write_notice ''
    if is_ours "$E_PID" "$E_START" "$E_BOOT"; then
        if [ "$3" = batch ]; then signal_batch "$1" "$E_PID" "$2"; else signal_all "$1" "$E_PID" "$2"; fi
    fi
    say "K $1 signalled"
}

# call_ack TAG HIGH "OPEN..." ID... END: settled and accounted for: the floor first, then the files.
call_ack() {
    for LAST in "$@"; do :; done
    [ $# -ge 4 ] && [ "$LAST" = "END-$1" ] && is_number "$2" || return 0
    TAG=$1
    if ! raise_floor "$2" "$3"; then
        say "E $TAG ack floor could not be written"
        return 0
    fi
    shift 3
    # Words, not positional parameters: each `set -- "$@" MORE` copies all there are.  For the same reason in two steps.
    GONE='' SOME=''
    for LAST in "$@"; do
        is_id "$LAST" || continue # the end word
        LAST=a/$LAST
        # What a listing finds goes last: if this is cut short, the rest is listed, and acknowledged again.
        SOME="$SOME $LAST.env $LAST.script $LAST.sup $LAST.run $LAST.cancel $LAST.seen $LAST.limit $LAST.limited \
            $LAST.out $LAST.err $LAST.result $LAST.steps $LAST.parts $LAST.calls $LAST.boxd $LAST.image $LAST.req $LAST.go $LAST.exit"
        if [ ${#SOME} -gt 6000 ]; then GONE=$GONE$SOME SOME=''; fi
        if [ -d "$LAST.d" ]; then { chmod -R u+rwX "$LAST.d" && rm -rf "$LAST.d"; } </dev/null 8>&- & fi
    done
    OK=1
    # shellcheck disable=SC2086 # words without anything that a shell would expand
    [ -z "$GONE$SOME" ] || rm -rf $GONE$SOME || OK=0
    GONE=''
    say "C $TAG $OK"
}

# call_list NONCE END
call_list() {
    [ $# -eq 2 ] && [ "$2" = "END-$1" ] || return 0
    [ -e spool_id ] || { say "E $1 list the spool is gone" && return 0; }
    jobs >/dev/null 2>&1 # reaps what earlier calls left running behind them
    is_alive "$SPAWNER" "$SPAWNER_START" || SPAWNER=''
    now
    if [ "${UPTIME%.*}" -ge "${TOUCH_AT:-0}" ]; then
        TOUCH_AT=$((${UPTIME%.*} + 86400))
        touch_spool </dev/null >/dev/null 2>&1 8>&- &
    fi
    COUNT=0
    say "L $1 begin 1"
    for OTHER in a/*.exit a/*.go; do
        LAST=${OTHER#a/}
        LAST=${LAST%.*}
        is_id "$LAST" || continue
        case $OTHER in *.go) [ ! -e "a/$LAST.exit" ] || continue ;; esac
        entry "$LAST"
        say "L $1 entry $ENTRY"
        COUNT=$((COUNT + 1))
    done
    say "L $1 end $COUNT"
    announce_calls
    tend_boxes
}

touch_spool() { # or those who clean /tmp and /var/tmp by age would take the files of a long job
    touch -c . a ./* a/* bin/*
    if has_file a/*.d; then find a/*.d -exec touch -a -c {} +; fi
}

# call_sweep TAG ID... END: what still carries the cookie of an attempt that has ended goes.
call_sweep() {
    for LAST in "$@"; do :; done
    [ $# -ge 2 ] && [ "$LAST" = "END-$1" ] || return 0
    sweep "$@" </dev/null &
}

sweep() {
    TAG=$1
    shift
    COUNT=$#
    for LAST in "$@"; do
        is_id "$LAST" || continue
        entry "$LAST"
        if [ "$E_SUP$E_ALIVE" = 00 ] || [ -n "$E_BOXED" ]; then set -- "$@" "$LAST"; fi
    done
    shift "$COUNT"
    LEFT='' ROUNDS=0 KILLED=' ' TOTAL=0
    while [ $# -gt 0 ] && [ "$ROUNDS" -lt 20 ]; do
        find_strays "$@"
        LEFT=''
        for PROCESS in $STRAYS; do
            look "$PROCESS" || continue
            LEFT="$LEFT $PROCESS"
            kill -s KILL "$PROCESS"
            case $KILLED in *" $PROCESS "*) ;; *) KILLED="$KILLED$PROCESS " TOTAL=$((TOTAL + 1)) ;; esac
        done
        [ -n "$LEFT" ] || break
        ROUNDS=$((ROUNDS + 1))
        nap
    done
    name_survivors
    for LAST in "$@"; do end_box "$LAST"; done
    say "W $TAG $TOTAL ${SURVIVORS:--}"
} 2>/dev/null

# call_shared TAG PATH NAME CONTENT END: is that directory here, with that file in it?  In a child: file servers hang.
call_shared() {
    [ $# -eq 5 ] && [ "$5" = "END-$1" ] || return 0
    look_shared "$@" </dev/null &
}

look_shared() {
    PRESENT=0 DIRECTORY=0 WRITABLE=0 CONTENT=''
    [ -d "$2" ] && DIRECTORY=1
    [ "$DIRECTORY" = 1 ] && [ -w "$2" ] && [ -x "$2" ] && WRITABLE=1
    [ -f "$2/$3" ] && read -r CONTENT <"$2/$3"
    [ -n "$4" ] && [ "$CONTENT" = "$4" ] && PRESENT=1
    say "D $1 $PRESENT $DIRECTORY $WRITABLE"
} 2>/dev/null

call_reap() { # PID START END: a `tail` of ours that may have outlived its channel
    [ $# -eq 3 ] && [ "$3" = "END-$1" ] && is_number "$1" && is_number "$2" || return 0
    OK=0
    is_alive "$1" "$2" && kill -s KILL "$1" && OK=1
    say "T $1 $OK"
}

call_purge() { # TAG END: the last thing a runner does
    [ $# -eq 2 ] && [ "$2" = "END-$1" ] || return 0
    COUNT=0
    for OTHER in a/*.exit; do
        LAST=${OTHER#a/}
        LAST=${LAST%.exit}
        is_id "$LAST" || continue
        entry "$LAST"
        [ "$E_SUP$E_ALIVE" = 00 ] || COUNT=$((COUNT + 1))
    done
    [ "$COUNT" -gt 0 ] || end_boxes_of_spool
    if [ "$COUNT" -gt 0 ]; then
        say "Z $1 0 $COUNT"
        return 0
    fi
    is_id "$SPOOL_ID" && rm -rf "/tmp/sshq-$SPOOL_ID"
    cd / && rm -rf "$SPOOL" && say "Z $1 1 0"
    exit 0
}

# call_probe TAG END: in a child, because it asks slow things
call_probe() {
    [ $# -eq 2 ] && [ "$2" = "END-$1" ] || return 0
    probe "$1" </dev/null &
}
