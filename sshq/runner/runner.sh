#!/bin/sh
# The whole of sshq that ever runs on a node: POSIX sh, fed to the stdin of `exec /bin/sh` over one channel.
# This part is what the others stand on; supervisor.sh, lease.sh, limits.sh, job.sh, box.sh, start.sh, calls.sh, facts.sh, parts.sh, steps.sh and answers.sh
# follow it, as one program.
# shellcheck disable=SC2034,SC2153 # variables shared with the other parts of the program
#
# Three kinds of process run this text:
#   runner      one a connection; executes calls (`call_*` below), one after the other, and dies with the connection
#   spawner     one a runner, in a session of its own; forks supervisors and ends when its runner is gone
#   supervisor  one a job; outlives runner and connection; starts the job, waits, enforces, writes the record
#
# Replies are lines under 4 KB, each one write, into the FIFO `bell`: runner, supervisors and jobs share it, one `cat`
# carries it to the channel.  A reply starts with a marker word; sshq/runner/protocol.py is the other side of each.
#
# Spool: BASE/spool/STORE_ID/, 0700, local.  Files of one launch are flat, not in a directory of their own: that would
# cost a `mkdir` process a job, a quarter of what a job costs its node.  ID is 32 hex digits:
#   a/ID.exit    made exclusively before all else (the claim), 1 KiB; at the end the record, twice, written in place
#   a/ID.go      the arbiter: a regular file = its supervisor may start it; a directory = it never starts
#   a/ID.req     what is asked, as assignments   a/ID.env  exports, emptied once read   a/ID.script
#   a/ID.sup     supervisor: pid, start, boot    a/ID.run  job: pid, start, boot, ...   a/ID.cancel  signal, grace, mode
#                                                                                        a/ID.seen    the last one heard
#   a/ID.steps/  a file a step, written by the job's own sruns (srun_record.sh)
#   a/ID.parts/  what is started in it from outside, and the input it is fed (parts.sh, and the holder in sshq/kinds)
#   a/ID.calls/  a directory a command of the job that asks the controller (command.sh)
#   a/ID.box     it has a container, or is about to: its engine, and its name (box.sh); a/ID.boxd/  what that reads
#   bin/         srun, sbatch, ...: what jobs find first on their PATH; the second line of each is its mark
#   a/ID.out, .err, .d   output and working directory of a job that has no place of its own
#   floor        "1 H open...": a launch is settled if its seq <= H and is not listed; only ever raised, by rename
#   gen.N        the generation of this node is N; r.PID.START.BOOT a runner, b.PID its FIFO, c.PID.START.BOOT the one who
#                reads it, bell the newest FIFO
#
# External commands a node needs: cat chmod date env grep id ln ls mkdir mkfifo mv nice rm rmdir sleep tail uname wc, and one
# of setsid, perl, python3.  Used where they are: awk busctl cut df getconf nproc sha256sum systemd-run timeout.  `probe`
# reports them.  None is run in the life of an ordinary job, except its own `env setsid interpreter` and a limit's `sleep`.
#
# Never: arrays, [[, local, $(...) in the hot path, `echo`, `set -e`; every variable here is global to its process.

PROTOCOL=1
FORMAT=1
LEASE_BASE=1000000000 # added to uptimes in the file `lease`: ten digits, whatever they are, overwritten in place
TAB_NEWLINE='	
'
IFS=" $TAB_NEWLINE"
set -C # `>` creates exclusively, `>|` overwrites
umask 077

# ---------------------------------------------------------------- facts about processes and time, builtins only

now() { read -r UPTIME _ </proc/uptime; } # since the node's boot, s.cc; wall clocks jump, this does not

# look PID: who is that?  Sets PID PARENT GROUP SESSION START; fails for the dead, zombies included.
look() {
    STAT=
    # A process may have put a newline into its own name.
    { read -r STAT && case $STAT in *') '*) ;; *) read -r MORE && STAT="$STAT $MORE" ;; esac; } 2>/dev/null <"/proc/$1/stat" || return 1
    PID=${STAT%% *} FIELDS=$STAT
    # `##*` would be half a millisecond: dash tries each length of the line, the longest first, each from its beginning.
    while case $FIELDS in *') '*) ;; *) false ;; esac do FIELDS=${FIELDS#*') '}; done
    # shellcheck disable=SC2086 # of /proc/PID/stat after the name: letters and numbers
    set -- $FIELDS
    PARENT=${2:-} GROUP=${3:-} SESSION=${4:-} START=${20:-}
    case ${1:-Z} in Z | X | x) return 1 ;; esac
}

# name_self: who is this process?  Sets PID and START as `look self` does, and UPTIME.  One that was forked after FORKED, an uptime, and asks
# in the same hundredth of a second, started in it: the kernel tells both by one clock (where it does: CLOCKED, see start.sh).
# That is nearly always so, and saves the 300 system calls that dash makes of a look at itself.
name_self() {
    now
    if [ "$FORKED$CLOCKED" = "${UPTIME}1" ]; then
        for PID in /proc/self/task/*; do :; done # the shell has one thread
        PID=${PID#/proc/self/task/} START=${UPTIME%.*}${UPTIME#*.}
        is_number "$PID" && return 0
    fi
    look self
}

is_alive() { [ -n "$2" ] && look "$1" && [ "$START" = "$2" ]; } # PID START, of this boot: never a recycled pid

is_ours() { [ "$3" = "$BOOT" ] && is_number "$1" && is_number "$2" && is_alive "$1" "$2"; } # PID START BOOT, as read from a file

is_id() {
    case $1 in *[!0-9a-f]*) return 1 ;; esac
    [ ${#1} -eq 32 ]
}

# has_memory PID: a process of this number lives, no zombie.  Not an identity; but where `look` reads 300 bytes, one by one in
# dash (0.15 ms), this reads 20.
has_memory() { SIZE=0 && read -r SIZE _ 2>/dev/null <"/proc/$1/statm" && [ "$SIZE" != 0 ]; }

is_number() { case $1 in '' | *[!0-9]*) return 1 ;; esac; }

nap() { # only while something is being killed
    if [ -z "${FORKLESS:-}" ]; then
        sleep 0.1 2>/dev/null || sleep 1
        return
    fi
    NAP=0
    while [ "$NAP" -lt 1000 ]; do NAP=$((NAP + 1)) && now; done
}

# group_kill SIGNAL PGID: dash wants `--`; busybox complains of it and kills all the same, so it comes second.
group_kill() { kill -s "$1" "-$2" || kill -s "$1" -- "-$2"; }

# ---------------------------------------------------------------- replies

say() { printf '%s\n' "$*" >&8; } # the runner's own: it holds the FIFO open

ring() { # a supervisor's: by name, read-write, so that nobody need listen
    if [ -p bell ]; then printf '%s\n' "$*" 1<>bell; fi
}

# ---------------------------------------------------------------- the floor

read_floor() { # sets FLOOR and FLOOR_OPEN; a damaged floor is as none: the next generation raises it again
    FLOOR=0 FLOOR_OPEN=
    [ -e floor ] || return 0
    read -r VERSION FLOOR FLOOR_OPEN <floor
    is_number "$FLOOR" && [ "$VERSION" = 1 ] || FLOOR=0 FLOOR_OPEN=
}

is_settled() { # SEQ
    read_floor
    [ "$1" -le "$FLOOR" ] || return 1
    case " $FLOOR_OPEN " in *" $1 "*) return 1 ;; esac
}

# raise_floor HIGH "OPEN...": settled is what was settled or is settled now.  Never lowers, whatever is asked.
raise_floor() {
    read_floor
    KEEP=
    for SEQ in $FLOOR_OPEN; do
        if [ "$SEQ" -gt "$1" ]; then KEEP="$KEEP $SEQ"; else
            case " $2 " in *" $SEQ "*) KEEP="$KEEP $SEQ" ;; esac
        fi
    done
    for SEQ in $2; do
        if [ "$SEQ" -gt "$FLOOR" ] && [ "$SEQ" -le "$1" ]; then KEEP="$KEEP $SEQ"; fi
    done
    HIGH=$FLOOR
    [ "$1" -le "$HIGH" ] || HIGH=$1
    [ -e floor ] && [ "1 $HIGH$KEEP" = "1 $FLOOR${FLOOR_OPEN:+ $FLOOR_OPEN}" ] && return 0
    if ! printf '%s\n' "1 $HIGH$KEEP" >|"floor.$$.new"; then
        # No space, and an ack is what would make some: a file that was made for this is overwritten in place.
        [ -s floor.spare ] && mv -f floor.spare "floor.$$.new" && printf '%s\n' "1 $HIGH$KEEP" 1<>"floor.$$.new" || return 1
    fi
    mv -f "floor.$$.new" floor || return 1
    [ -s floor.spare ] || printf '%4095s\n' '' >|floor.spare || rm -f floor.spare
    return 0
}

# ---------------------------------------------------------------- records

# read_record ID: sets RECORD to the line, or to - (none yet) or ! (neither empty nor intact).
read_record() {
    RECORD=- ONE='' TWO=''
    { read -r ONE && read -r TWO; } 2>/dev/null <"a/$1.exit"
    [ -n "$ONE" ] || return 1
    case $ONE in "1 $1 "*) [ "$ONE" = "$TWO" ] && RECORD=$ONE && return 0 ;; esac
    RECORD=!
    return 1
}

# entry ID: all that is known of a launch, as the words of a reply, in ENTRY.
# Order matters.  A job's process names itself before it looks whether its supervisor lives, so: supervisor first, then
# job; and a record may appear between two looks, so: record last again.
entry() {
    E_SEQ=0 E_JOB=0 E_ATTEMPT=0 E_GO=none E_SUP=0 E_ALIVE=0 E_PID=0 E_START=0 E_SINCE=- E_CLAIM=0 E_BY='' E_BYSTART='' E_BOOT='' E_BOXED=''
    [ ! -e "a/$1.exit" ] || E_CLAIM=1
    if [ -d "a/$1.go" ]; then E_GO="directory"; elif [ -e "a/$1.go" ]; then E_GO="file"; fi
    read -r _ _ E_SEQ E_JOB E_ATTEMPT _ 2>/dev/null <"a/$1.req"
    is_number "$E_SEQ" && is_number "$E_JOB" && is_number "$E_ATTEMPT" || E_SEQ=0 E_JOB=0 E_ATTEMPT=0
    if ! read_record "$1"; then
        read -r _ E_BY E_BYSTART E_BOOT _ 2>/dev/null <"a/$1.sup" && is_ours "$E_BY" "$E_BYSTART" "$E_BOOT" && E_SUP=1
        read -r _ E_PID E_START E_BOOT E_SINCE _ 2>/dev/null <"a/$1.run" && is_ours "$E_PID" "$E_START" "$E_BOOT" && E_ALIVE=1
        is_number "$E_PID" && is_number "$E_START" || E_PID=0 E_START=0 E_SINCE=-
        [ "$E_SUP$E_ALIVE" != 00 ] || read_record "$1" || :
        [ "$E_SUP$RECORD" != '1!' ] || RECORD=- # it is being written
        # Its container may live on without them: then it does, until that is proved gone (tend_boxes).
        if [ "$E_SUP$E_ALIVE$RECORD$E_BOOT" = "00-$BOOT" ] && [ -e "a/$1.box" ]; then E_ALIVE=1 E_BOXED=1; fi
    fi
    # Where the arbiter's file was lost, what only its winner writes stands for it: it may have run.
    [ "$E_GO" != none ] || if [ -s "a/$1.run" ] || [ "$RECORD" != - ]; then E_GO="file"; fi
    ENTRY="$1 $E_SEQ $E_JOB $E_ATTEMPT $E_CLAIM $E_GO $E_SUP $E_ALIVE $E_PID $E_START ${E_SINCE:--} $RECORD"
}

# ---------------------------------------------------------------- killing

has_grep() { # does grep see text behind a NUL?  busybox's did not always
    printf 'x\000SSHQ_ATTEMPT=y\000' | grep -q -F SSHQ_ATTEMPT=y
} 2>/dev/null

# find_strays ID...: pids in STRAYS whose environment carries the cookie of one of these attempts.
find_strays() {
    STRAYS=
    [ -z "${FORKLESS:-}" ] || GREP_OK=0
    [ -n "${GREP_OK:-}" ] || { if has_grep; then GREP_OK=1; else GREP_OK=0; fi; }
    if [ "$GREP_OK" = 1 ]; then
        COUNT=$#
        for STRAY in "$@"; do set -- "$@" -e "SSHQ_ATTEMPT=$STRAY"; done
        shift "$COUNT"
        # shellcheck disable=SC2013 # words: /proc/PID/environ
        for STRAY in $(grep -l -F "$@" /proc/[0-9]*/environ 2>/dev/null); do
            STRAY=${STRAY#/proc/}
            STRAYS="$STRAYS ${STRAY%/environ}"
        done
    else
        for STRAY in /proc/[0-9]*; do
            # shellcheck disable=SC3067 # -O: not POSIX, in every sh all the same
            [ -O "$STRAY" ] || continue
            while read -r ENVIRON || [ -n "$ENVIRON" ]; do # `read` drops the NULs
                for ATTEMPT in "$@"; do
                    case $ENVIRON in *"SSHQ_ATTEMPT=$ATTEMPT"*) STRAYS="$STRAYS ${STRAY#/proc/}" && break 2 ;; esac
                done
            done 2>/dev/null <"$STRAY/environ"
        done
    fi
}

# find_members SESSION: pids in MEMBERS that may be of this session.  To `look` at all is ten times as dear as one grep, and a
# cancel of many jobs at once does it for each of them.
find_members() {
    MEMBERS=
    if [ "$GREP_OK" = 1 ]; then
        # shellcheck disable=SC2013 # words: /proc/PID/stat
        for PROCESS in $(grep -l -E "\) [A-Za-z] -?[0-9]+ -?[0-9]+ $1 " /proc/[0-9]*/stat 2>/dev/null); do
            PROCESS=${PROCESS#/proc/}
            MEMBERS="$MEMBERS ${PROCESS%/stat}"
        done
    else
        for PROCESS in /proc/[0-9]*; do MEMBERS="$MEMBERS ${PROCESS#/proc/}"; done
    fi
}

# find_left ID SESSION: pids of what lives of a job, its session and who carries its cookie, in LEFT; those outside its
# process group also in OUTSIDE.  Descendants count, too.
find_left() {
    find_strays "$1"
    find_members "$2"
    [ "${FAMILY_OF:-}" = "$1" ] || FAMILY='' FAMILY_OF=$1
    LEFT='' OUTSIDE=''
    for PROCESS in $MEMBERS; do
        look "$PROCESS" && [ "$SESSION" = "$2" ] || continue # whoever's: what sudo runs is named, if not killed
        LEFT="$LEFT $PID"
        [ "$GROUP" = "$2" ] || OUTSIDE="$OUTSIDE $PID"
    done 2>/dev/null
    for STRAY in $STRAYS; do
        case " $LEFT " in *" $STRAY "*) continue ;; esac
        if look "$STRAY"; then LEFT="$LEFT $STRAY" OUTSIDE="$OUTSIDE $STRAY"; fi
    done
    find_family
}

# find_family: adds to LEFT and OUTSIDE who descends from LEFT.  Who left the session without its environment is known by its
# parents while they live; once seen it stays in FAMILY, by its start.
find_family() {
    for PROCESS in $FAMILY; do
        case " $LEFT " in *" ${PROCESS%:*} "*) continue ;; esac
        if is_alive "${PROCESS%:*}" "${PROCESS#*:}"; then LEFT="$LEFT $PID" OUTSIDE="$OUTSIDE $PID"; fi
    done
    GENERATION=$LEFT
    while [ -n "$GENERATION" ]; do
        NEXT=''
        for PROCESS in $GENERATION; do
            for CHILDREN in "/proc/$PROCESS/task"/*/children; do
                KIN=''
                read -r KIN <"$CHILDREN" || : # no newline ends it
                for CHILD in $KIN; do
                    case " $LEFT " in *" $CHILD "*) continue ;; esac
                    look "$CHILD" && [ "$PARENT" = "$PROCESS" ] || continue
                    LEFT="$LEFT $CHILD" OUTSIDE="$OUTSIDE $CHILD" NEXT="$NEXT $CHILD" FAMILY="$FAMILY $CHILD:$START"
                done
            done
        done
        GENERATION=$NEXT
    done
} 2>/dev/null

# find_steps ID: the live tasks of a job's running steps in TASKS, the sruns that look after them in SRUNS, those of them
# that are just starting their tasks in STARTERS too, and those that still wait in WAITERS.
find_steps() {
    TASKS='' SRUNS='' STARTERS='' WAITERS=''
    for STEP in "a/$1.steps"/[0-9]*; do
        [ -e "$STEP" ] || return 0
        while read -r KEY STEP_PID STEP_START _ VALUE _; do
            if ! is_number "$STEP_PID" || ! is_alive "$STEP_PID" "$STEP_START"; then continue; fi
            case $KEY$VALUE in
            1run) SRUNS="$SRUNS $STEP_PID" ;;
            1start) SRUNS="$SRUNS $STEP_PID" STARTERS="$STARTERS $STEP_PID" ;;
            1wait) WAITERS="$WAITERS $STEP_PID" ;;
            t) TASKS="$TASKS $STEP_PID" ;;
            esac
        done <"$STEP"
    done 2>/dev/null
    return 0
}

signal_tasks() { # SIGNAL: to the tasks that find_steps found, each with its group; those just started, only their sruns know
    for PROCESS in $TASKS; do group_kill "$1" "$PROCESS" || kill -s "$1" "$PROCESS"; done
    for PROCESS in $STARTERS; do kill -s "$1" "$PROCESS"; done
} 2>/dev/null

# signal_steps ID PID SIGNAL: as Slurm, a signal is for the steps, not the script; a job without steps gets it as a whole.
signal_steps() {
    TASKS='' STARTERS=''
    [ ! -d "a/$1.steps" ] || find_steps "$1"
    if [ -n "$TASKS$STARTERS" ]; then signal_tasks "$3"; else signal_all "$@"; fi
}

spare_steps() { # ID: an srun would pass on what its tasks get anyway
    find_steps "$1"
    KEEP=$OUTSIDE OUTSIDE=''
    for PROCESS in $KEEP; do
        case " $SRUNS " in *" $PROCESS "*) ;; *) OUTSIDE="$OUTSIDE $PROCESS" ;; esac
    done
}

# signal_all ID PID SIGNAL...: the job's group, the rest of its session, its strays; each process once a signal.
signal_all() {
    find_left "$1" "$2"
    if [ -d "a/$1.steps" ] && [ "$3" != KILL ]; then spare_steps "$1"; fi
    LEADER=$2
    shift 2
    for SIGNAL in "$@"; do
        group_kill "$SIGNAL" "$LEADER" || kill -s "$SIGNAL" "$LEADER" # the group exists only once the job has its session
        for PROCESS in $OUTSIDE; do kill -s "$SIGNAL" "$PROCESS"; done
    done
} 2>/dev/null

# end_all ID PID DEADLINE: wait until nothing of the job is left; from DEADLINE (uptime, s) on with KILL, then bounded.
end_all() {
    ROUNDS=0 NAPS=0 EMPTY=''
    while :; do
        find_left "$1" "$2"
        if [ -z "$LEFT" ]; then
            # /proc is read in no order of time: one that forks and exits meanwhile can lie behind the look with both halves.
            [ -z "$EMPTY" ] || break
            EMPTY=1
            continue
        fi
        EMPTY=''
        now
        if [ "${UPTIME%.*}" -ge "$3" ]; then
            for PROCESS in $LEFT; do kill -s KILL "$PROCESS"; done 2>/dev/null
            case " $SENT " in *' KILL '*) ;; *) SENT="$SENT KILL" ;; esac
            ROUNDS=$((ROUNDS + 1))
            [ "$ROUNDS" -lt 30 ] || break
            [ "$ROUNDS" -gt 1 ] || continue
        fi
        NAPS=$((NAPS + 1))
        if [ "$NAPS" -lt 20 ] || [ -n "${FORKLESS:-}" ]; then nap; else sleep 1; fi
    done
    name_survivors
    end_box "$1"
}

name_survivors() { # of LEFT, at most five, as pid:name,... in SURVIVORS
    SURVIVORS=
    COUNT=0
    for PROCESS in $LEFT; do
        look "$PROCESS" || continue
        COUNT=$((COUNT + 1))
        [ "$COUNT" -le 5 ] || break
        NAME=${STAT#*'('}
        case ${NAME%')'*} in *[!A-Za-z0-9._+-]*) NAME='?)' ;; esac
        SURVIVORS="$SURVIVORS${SURVIVORS:+,}$PROCESS:${NAME%')'*}"
    done
}
