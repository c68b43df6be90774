#!/bin/sh
# srun inside a job: where its tasks' input comes from and their output goes.  See srun.sh.
# shellcheck disable=SC2034,SC2154 # variables shared with srun.sh

s_prefix() { # LABEL: put it before each line; deaf to what ends the tasks, whose last words it carries
    trap '' TERM HUP INT QUIT USR1 USR2 ALRM
    while IFS= read -r s_line || [ -n "$s_line" ]; do printf '%s: %s\n' "$1" "$s_line"; done
}

s_feed() { # FIFO...: our input to all tasks
    trap '' PIPE
    exec tee "$@" >/dev/null 2>&1
}

s_plan_streams() { # what all tasks share is opened once: 3 input, 4 output, 5 errors
    s_own_in='' s_own_out='' s_own_err='' s_only_in='' s_only_out='' s_only_err='' s_feeds='' s_joined=
    case $s_in in
    '' | all) if [ "$s_tasks" -gt 1 ] && { true <&0; } 2>/dev/null && [ ! /dev/stdin -ef /dev/null ]; then s_feeds=1; fi ;;
    none) exec </dev/null ;;
    *)
        if s_is_number "$s_in"; then
            s_only_in=$s_in
            # Another node's: that one alone is fed, the tasks here get nothing.
            if [ -n "$s_others" ] && ! s_is_among "$s_in" "$s_ranks" && [ ! /dev/stdin -ef /dev/null ]; then s_feeds=1; fi
        else
            s_own_in=1
        fi
        ;;
    esac
    [ -z "$s_feeds" ] || s_fed_others=$s_others
    { true <&0; } 2>/dev/null || exec </dev/null
    exec 3<&0 4>&1 5>&2
    case $s_out in
    '' | all) ;;
    none) exec 4>/dev/null ;;
    *)
        if s_is_number "$s_out"; then
            s_only_out=$s_out
        elif s_by_task "$s_out"; then
            s_own_out=1
        elif [ -z "$s_part" ] || s_by_node "$s_out"; then
            s_open "$s_out" 0 stdout
            exec 4>>"$s_path"
            [ -n "$s_err" ] || exec 5>&4
            s_joined=$s_path
        fi
        ;;
    esac
    case $s_err in
    '' | all) ;;
    none) exec 5>/dev/null ;;
    "$s_out") s_err='' && if [ -z "$s_own_out" ]; then exec 5>&4; fi ;;
    *)
        if s_is_number "$s_err"; then
            s_only_err=$s_err
        elif s_by_task "$s_err"; then
            s_own_err=1
        elif [ -z "$s_part" ] || s_by_node "$s_err"; then
            s_expand "$s_err" 0
            if [ -n "$s_joined" ] && [ "$s_path" = "$s_joined" ]; then
                exec 5>&4
            else
                s_open "$s_err" 0 stderr
                exec 5>>"$s_path"
            fi
        fi
        ;;
    esac
}
