#!/bin/sh
# Steps: what the sruns of a job wrote of themselves (see srun_record.sh), told to a controller.  See runner.sh.
# shellcheck disable=SC2034,SC2153,SC2154 # variables shared with the other parts of the program

# call_steps TAG LIVE ID... END: the steps of these launches, those that run (LIVE 1) or all that ever ran.  In a child:
# there may be thousands.
call_steps() {
    for LAST in "$@"; do :; done
    [ $# -ge 4 ] && [ "$LAST" = "END-$1" ] || return 0
    tell_steps "$@" </dev/null &
}

tell_steps() {
    TAG=$1 LIVE=$2 COUNT=0 STEPS_MAX=10000
    shift 2
    now
    for LAST in "$@"; do
        is_id "$LAST" && [ -d "a/$LAST.steps" ] || continue
        for STEP in "a/$LAST.steps"/[0-9]*; do
            [ -e "$STEP" ] && [ "$COUNT" -lt "$STEPS_MAX" ] || break
            tell_step
        done
    done
    say "G $TAG . $COUNT"
} 2>/dev/null

tell_step() { # the one in the file STEP, of the launch LAST
    S_PID='' S_START='' S_HELD=0 S_STATE='' S_CODE=- S_FACTS='- - - - - - -' S_NODES='' S_NAME='' S_LINE='' S_BASE=''
    read -r _ _ _ _ S_BASE _ <"a/$LAST.run"
    while read -r KEY VALUE; do
        case $KEY in
        1) read_step_head ;;
        s) S_FACTS=$VALUE ;;
        w) S_NODES=$VALUE ;;
        n) S_NAME=$VALUE ;;
        l) S_LINE=$VALUE ;;
        esac
    done <"$STEP"
    case $S_STATE in
    start | run) if is_number "$S_PID" && is_alive "$S_PID" "$S_START"; then S_STATE=run; else S_STATE=dead; fi ;;
    'done') ;;
    *) return 0 ;; # it waits for room, or gave up waiting
    esac
    if [ "$LIVE" = 1 ]; then
        [ "$S_STATE" = run ] || return 0
        sample_step
    else
        S_SAMPLE='- -'
    fi
    COUNT=$((COUNT + 1))
    STEP_LINE="G $TAG $LAST ${STEP##*/} $S_STATE ${S_CODE:--} $S_HELD $S_FACTS $S_SAMPLE ${S_BASE:--} $UPTIME $TAB$S_NODES$TAB$S_NAME$TAB$S_LINE"
    # A job may write what it likes into its own files.
    [ "${#STEP_LINE}" -lt 3500 ] || STEP_LINE="G $TAG $LAST ${STEP##*/} too-long"
    say "$STEP_LINE"
}

TAB='	'

# call_end_step TAG ID NUMBER SIGNAL GRACE END: a signal to the tasks of one step; none given: TERM, and KILL after GRACE seconds.
call_end_step() {
    [ $# -eq 6 ] && [ "$6" = "END-$1" ] && is_id "$2" && is_number "$3" && is_number "$5" || return 0
    end_step "$@" </dev/null &
}

end_step() {
    TAG=$1 LAST=$2 STEP=a/$2.steps/$3 NUMBER=$3 SIGNAL=$4 GRACE=$5 LIVE=1 COUNT=0
    now
    [ ! -e "$STEP" ] || tell_step
    say "G $TAG . $COUNT"
    [ "$COUNT" = 1 ] || return 0
    find_tasks
    if [ -n "$SIGNAL" ]; then
        if [ -z "$ELSEWHERE" ]; then
            signal_tasks "$SIGNAL"
        else # its srun reaches them all; from a TERM it kills them
            [ "$SIGNAL" != KILL ] || SIGNAL=TERM
            kill -s "$SIGNAL" "$S_PID"
        fi
        return
    fi
    F=a/$LAST
    read_request
    job_id=$job_id.$NUMBER NOTICE_OF=STEP
    write_notice ''
    signal_tasks TERM
    signal_tasks CONT # a stopped one is deaf
    [ -z "$ELSEWHERE" ] || kill -s TERM "$ELSEWHERE"
    now
    DEADLINE=$((${UPTIME%.*} + GRACE))
    while find_tasks && [ -n "$TASKS" ]; do
        now
        [ "${UPTIME%.*}" -lt "$DEADLINE" ] || signal_tasks KILL
        nap
    done
} 2>/dev/null

find_tasks() { # the live ones of STEP, in TASKS; who starts them in STARTERS, while it does
    TASKS='' STARTERS='' ELSEWHERE=''
    while read -r KEY S_TASK S_BEGUN _ VALUE _; do
        if ! is_number "$S_TASK" || ! is_alive "$S_TASK" "$S_BEGUN"; then continue; fi
        case $KEY$VALUE in t) TASKS="$TASKS $S_TASK" ;; 1start) STARTERS=$S_TASK ;; u) ELSEWHERE=$S_TASK ;; esac
    done <"$STEP"
}

read_step_head() { # of VALUE: PID START CPUS STATE [CODE]
    S_GIVEN=$VALUE
    S_PID=${S_GIVEN%% *} S_GIVEN=${S_GIVEN#* }
    S_START=${S_GIVEN%% *} S_GIVEN=${S_GIVEN#* }
    S_HELD=${S_GIVEN%% *} S_STATE=${S_GIVEN#* }
    case $S_STATE in *' '*) S_CODE=${S_STATE#* } S_STATE=${S_STATE%% *} ;; esac
}

# sample_step: sets S_SAMPLE to what its tasks have used: hundredths of a second of CPU, and the most memory of one task, KiB.
# A task is a process and its descendants.
sample_step() {
    S_TICKS=0 S_RSS=0
    while read -r KEY S_TASK S_BEGUN; do
        if [ "$KEY" != t ] || ! is_number "$S_TASK" || ! is_alive "$S_TASK" "$S_BEGUN"; then continue; fi
        S_FAMILY=$S_TASK S_SUM=0 S_SEEN=''
        while [ -n "$S_FAMILY" ]; do
            S_ONE=${S_FAMILY%% *}
            case $S_FAMILY in *' '*) S_FAMILY=${S_FAMILY#* } ;; *) S_FAMILY='' ;; esac
            sample_process "$S_ONE"
            [ "${#S_SEEN}" -lt 2000 ] || break
            S_SEEN="$S_SEEN $S_ONE"
            for CHILDREN in "/proc/$S_ONE/task"/*/children; do
                KIN=''
                read -r KIN <"$CHILDREN" || : # no newline ends it
                for CHILD in $KIN; do S_FAMILY="$S_FAMILY${S_FAMILY:+ }$CHILD"; done
            done
        done
        [ "$S_SUM" -le "$S_RSS" ] || S_RSS=$S_SUM
    done <"$STEP"
    S_SAMPLE="$S_TICKS $S_RSS"
}

sample_process() { # PID: adds to S_TICKS and S_SUM
    while read -r KEY VALUE _; do
        case $KEY in VmHWM:) S_SUM=$((S_SUM + VALUE)) && break ;; esac
    done <"/proc/$1/status"
    look "$1" || return 0
    # shellcheck disable=SC2086 # fields of /proc/PID/stat after the name
    set -- $FIELDS
    S_TICKS=$((S_TICKS + ${12:-0} + ${13:-0} + ${14:-0} + ${15:-0}))
}
