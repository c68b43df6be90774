#!/bin/sh
# srun inside a job of one node: plain sh, no sshq and no Python on the node.  A runner puts it into SPOOL/bin, which
# stands first on every job's PATH; which job it belongs to, SSHQ_DIR says.
# shellcheck disable=SC2034,SC2154 # variables shared with srun_options.sh, and what is written in front
# shellcheck disable=SC2329 # s_signal: in traps
#
# A step is a file SSHQ_DIR.steps/NUMBER, made exclusively, which is how steps get their numbers; srun_record.sh says what
# stands in it.
# A step waits until the CPUs that the live steps before it hold leave room for its own; --overlap holds none.  The
# runner reads these files: a signal to the job goes to its tasks, not to this srun, which would only pass it on again.
#
# Every variable here begins with s_: what the user exported must reach the tasks as it is.
# In front of this text stand s_row, s_variables, s_longs (the options, by commands.py), s_setsid... (tools, by start.sh),
# srun_options.sh and srun_record.sh.

# ---------------------------------------------------------------- the step's place

s_claim() { # CPUS: sets s_step and s_file
    s_steps=$SSHQ_DIR.steps
    [ ! -e "$SSHQ_DIR.exit" ] || [ -d "$s_steps" ] || mkdir "$s_steps" 2>/dev/null
    [ -d "$s_steps" ] || s_refuse 'Job/step already completing or completed'
    s_look "$$"
    s_mine=$s_start
    set -- "$1" "$s_steps"/[0-9]*
    s_step=$(($# - 1))
    [ -e "$s_steps/$s_step" ] || [ "$s_step" -eq 0 ] || s_step=$((s_step - 1))
    set -C
    until { printf '1 %s %s %s wait\n%s' "$$" "$s_mine" "$1" "${s_gpu_line:+g -$s_newline}" >"$s_steps/$s_step"; } 2>/dev/null; do
        [ -e "$s_steps/$s_step" ] || s_refuse 'No space left on device'
        s_step=$((s_step + 1))
    done
    set +C
    s_file=$s_steps/$s_step
}

s_has_room() { # CPUS: beside what the live steps with lower numbers hold; those with higher ones wait for us
    s_held=0 s_other=0
    while [ "$s_other" -lt "$s_step" ]; do
        s_pid='' s_state='' s_begun='' s_cpus_held='' s_looks=0
        # Made, but not yet written: its srun is between the two, or died there.
        until read -r _ s_pid s_begun s_cpus_held s_state 2>/dev/null <"$s_steps/$s_other" || [ ! -e "$s_steps/$s_other" ] || [ "$s_looks" -gt 100 ]; do
            s_looks=$((s_looks + 1))
            { sleep 0.01 || s_looks=101; } 2>/dev/null
        done
        case $s_state in
        wait | start | run)
            # A step within a step has its CPUs.
            if [ "$s_other" != "${SLURM_STEP_ID:-}" ] && s_lives "$s_pid" "$s_begun"; then s_held=$((s_held + s_cpus_held)); fi
            ;;
        esac
        s_other=$((s_other + 1))
    done
    [ $((s_held + $1)) -le "$s_total" ] && s_has_gpus
}

s_await_room() { # CPUS
    s_rounds=0
    until s_has_room "$1"; do
        if [ -n "$s_immediate" ]; then
            rm -f "$s_file"
            s_refuse 'Requested nodes are busy'
        fi
        [ "$s_rounds" -ne 0 ] || s_say "Job $SLURM_JOB_ID step creation temporarily disabled, retrying (Requested nodes are busy)"
        s_rounds=$((s_rounds + 1))
        { if [ "$s_rounds" -gt 50 ]; then sleep 1; else sleep 0.1 || sleep 1; fi; } 2>/dev/null # a shell tells of one that a signal ended
        if [ -n "$s_asked" ]; then
            s_say "Cancelled pending job step with signal $s_asked"
            s_write_state never
            s_refuse 'Job/step already completing or completed'
        fi
    done
    [ "$s_rounds" -eq 0 ] || s_say "Step created for StepId=$SLURM_JOB_ID.$s_step"
}

# ---------------------------------------------------------------- signals

s_signal() { # NAME NUMBER: to this srun alone; what the whole job gets, its tasks get without us
    s_woken=1
    if [ -n "$s_starting" ]; then
        s_asked=$2 s_asked_name=$1
        return
    fi
    case $1 in
    TERM | HUP) # as Slurm's: no grace
        [ -n "$s_part" ] || s_say 'forcing job termination'
        s_forced=1
        s_pass KILL
        ;;
    *) s_pass "$1" ;;
    esac
}

s_pass() { # SIGNAL: to the tasks that live
    for s_one in $s_live; do
        if s_lives "${s_one%:*}" "${s_one#*:}"; then kill -s "$1" "-${s_one%:*}" || kill -s "$1" -- "-${s_one%:*}" || kill -s "$1" "${s_one%:*}"; fi
    done
    s_pass_others "$1"
} 2>/dev/null

# ---------------------------------------------------------------- tasks

s_restrict() { # the environment that --export leaves
    s_items='' s_all='' s_quote='' s_item='' s_left=$s_export,
    while [ -n "$s_left" ]; do
        s_letter=${s_left%"${s_left#?}"} s_left=${s_left#?}
        case $s_quote$s_letter in
        "''" | '""') s_quote='' ;;
        \'?* | \"?*) s_item=$s_item$s_letter ;;
        \' | \") s_quote=$s_letter ;;
        ,)
            case $s_item in
            [Aa][Ll][Ll]) s_all=1 ;;
            *=*) case ${s_item%%=*} in '' | [0-9]* | *[!A-Za-z0-9_]* | s_*) ;; *) export "${s_item%%=*}=${s_item#*=}" && s_items="$s_items ${s_item%%=*}" ;; esac ;;
            *) s_items="$s_items $s_item" ;;
            esac
            s_item=
            ;;
        *) s_item=$s_item$s_letter ;;
        esac
    done
    [ -z "$s_all" ] || return 0
    for s_one in $(env | while IFS= read -r s_line; do case $s_line in [A-Za-z_]*=*) printf '%s ' "${s_line%%=*}" ;; esac done); do
        case $s_one in *[!A-Za-z0-9_]* | SLURM* | SSHQ_* | HOME | USER | LOGNAME | SHELL | PATH | PWD | TMPDIR | _) continue ;; esac
        case " $s_items " in *" $s_one "*) ;; *) unset "$s_one" ;; esac
    done
} 2>/dev/null

s_run_task() { # RANK PLACE COMMAND...: in a process of its own, which becomes the task
    s_rank=$1
    read -r SLURM_TASK_PID _ </proc/self/stat
    SLURM_PROCID=$s_rank SLURM_LOCALID=$2
    shift 2
    export SLURM_PROCID SLURM_LOCALID SLURM_TASK_PID
    s_bind_task "$SLURM_LOCALID"
    if [ -n "$s_dir" ] && ! cd -- "$s_dir" 2>/dev/null; then
        if [ -d "$s_dir" ]; then s_cause='Permission denied'; elif [ -e "$s_dir" ]; then s_cause='Not a directory'; else s_cause='No such file or directory'; fi
        printf "slurmstepd-%s: error: couldn't chdir to \`%s': %s: going to /tmp instead\n" "$SLURMD_NODENAME" "$s_dir" "$s_cause" >&2
        cd /tmp || cd /
    fi
    if [ -n "$s_own_in" ]; then
        s_expand "$s_in" "$s_rank"
        [ -r "$s_path" ] && [ ! -d "$s_path" ] || s_fail "Could not open stdin file $s_path: No such file or directory"
        exec <"$s_path"
    fi
    if [ -n "$s_own_out" ]; then
        s_open "$s_out" "$s_rank" stdout
        exec >>"$s_path"
        [ -n "$s_err" ] || exec 2>&1
    fi
    if [ -n "$s_own_err" ]; then
        s_open "$s_err" "$s_rank" stderr
        exec 2>>"$s_path"
    fi
    exec 3<&- 4>&- 5>&- 6>&-
    case $1 in
    */*) if [ -d "$1" ]; then s_cause='Permission denied'; elif [ -x "$1" ]; then s_cause=''; elif [ -e "$1" ]; then s_cause='Permission denied'; else s_cause='No such file or directory'; fi ;;
    *) if command -v "$1" >/dev/null; then s_cause=''; else s_cause='No such file or directory'; fi ;;
    esac
    if [ -n "$s_cause" ]; then
        printf 'slurmstepd-%s: error: execve(): %s: %s\n' "$SLURMD_NODENAME" "$1" "$s_cause" >&2
        exit 2
    fi
    case $s_setsid in
    setsid) set -- "$s_setsid_bin" "$@" ;;
    perl) set -- "$s_setsid_bin" -e "$s_perl_setsid" "$@" ;;
    python3) set -- "$s_setsid_bin" -I -S -c "$s_python_setsid" "$@" ;;
    esac
    # shellcheck disable=SC2086 # s_value: one word or two
    case $s_bind in # where CPUs are named; without taskset it runs all the same
    *map_cpu:* | *mask_cpu:*) if s_taskset=$(command -v taskset); then s_choose_cpu "$SLURM_LOCALID" && set -- "$s_taskset" $s_value "$@"; fi ;;
    esac
    case $s_signals in # sh starts what is asynchronous with INT and QUIT ignored
    env) set -- "$s_signals_bin" --default-signal=INT,QUIT,HUP,PIPE "$@" ;;
    perl) set -- "$s_signals_bin" -e "$s_perl_signals" "$@" ;;
    python3) set -- "$s_signals_bin" -I -S -c "$s_python_signals" "$@" ;;
    esac
    exec "$@"
}

s_start_task() { # RANK PLACE COMMAND...: through pipes for labels and shared input where those are asked for
    s_from='' s_to='' s_errors=
    s_lane=$s_steps/f.$s_step.$1
    if [ -n "$s_feeds" ] && [ -z "$s_only_in" ]; then s_from=$s_lane.in; elif [ -n "$s_only_in" ] && [ "$s_only_in" != "$1" ]; then s_from=/dev/null; fi
    [ -z "$s_only_out" ] || [ "$s_only_out" = "$1" ] || s_to=/dev/null
    [ -z "$s_only_err" ] || [ "$s_only_err" = "$1" ] || s_errors=/dev/null
    if [ -n "$s_label" ]; then
        s_digits=$((s_tasks - 1))
        s_width=${#s_digits}
        s_pad "$1"
        if [ -z "$s_own_out" ] && [ -z "$s_to" ]; then
            s_to=$s_lane.out
            mkfifo "$s_to"
            s_prefix "$s_value" <"$s_to" >&4 3<&- 5>&- 6>&- &
            s_helpers="$s_helpers $!"
        fi
        if [ -z "$s_own_err" ] && [ -z "$s_own_out" ] && [ -z "$s_errors" ]; then
            s_errors=$s_lane.err
            mkfifo "$s_errors"
            s_prefix "$s_value" <"$s_errors" >&5 3<&- 4>&- 6>&- &
            s_helpers="$s_helpers $!"
        fi
    fi
    {
        # In the child: a FIFO's opening waits for its other end.
        if [ -n "$s_from" ]; then exec <"$s_from"; else exec <&3; fi
        if [ -n "$s_to" ]; then exec >"$s_to"; else exec >&4; fi
        if [ -n "$s_errors" ]; then exec 2>"$s_errors"; else exec 2>&5; fi
        s_run_task "$@"
    } &
    s_pid=$!
    s_look "$s_pid" || s_start=0
    s_live="$s_live $s_pid:$s_start"
}

s_start_program() { # RANK PLACE COMMAND...: or with --multi-prog the line of that rank in the file
    if [ -z "$s_multi" ]; then
        s_start_task "$@"
        return
    fi
    s_find_program "$1"
    s_rank=$1 s_local=$2
    # The words of a configuration file, split as a shell would, but nothing else of it is obeyed.
    eval "set -- $s_value"
    s_start_task "$s_rank" "$s_local" "$@"
}

s_launch() { # COMMAND...
    s_feeders=
    if [ -n "$s_feeds" ]; then
        [ -z "$s_fed_others" ] || s_feeders="f.$s_step.others.in"
        for s_rank in $s_ranks; do
            [ -z "$s_only_in" ] || break
            mkfifo "$s_steps/f.$s_step.$s_rank.in"
            s_feeders="$s_feeders f.$s_step.$s_rank.in"
        done
        # shellcheck disable=SC2086
        (cd "$s_steps" && s_feed $s_feeders) <&3 3<&- 4>&- 5>&- 6>&- &
        s_feeder=$!
    fi
    s_place=0
    for s_rank in $s_ranks; do
        s_start_program "$s_rank" "$s_place" "$@"
        s_place=$((s_place + 1))
    done
    # shellcheck disable=SC2086 # pairs of numbers
    s_write_state run $s_live
}

s_reap() { # PID START: sets s_code
    while :; do
        s_woken=
        wait "$1" 2>/dev/null # or some shells remark on what a signal ended
        s_code=$?
        # A trap that runs ends `wait`: who lives has not ended.
        if s_lives "$1" "$2"; then
            [ -n "$s_woken" ] || { sleep 1; } 2>/dev/null
            continue
        fi
        if [ -n "$s_woken" ]; then
            s_first=$s_code
            wait "$1" 2>/dev/null
            s_code=$?
            [ "$s_code" -ne 127 ] || s_code=$s_first
        fi
        [ "$s_code" -le 256 ] || s_code=$((s_code - 128)) # ksh, of a signal
        return 0
    done
}

s_note_bad() { # s_code of a task that ended
    if [ -n "$s_bad_exit" ] && [ "$s_code" -ne 0 ] && [ -z "$s_forced" ]; then
        s_forced=1
        [ -n "$s_part" ] || s_say 'Job step aborted: Waiting up to 32 seconds for job step to finish.'
        s_pass TERM
        s_kill_at=$((s_ticks + 300))
    fi
}

s_watch() { # for --kill-on-bad-exit and --wait: who ended, all the time
    s_left=$s_live s_ended_at='' s_ticks=0
    while [ -n "$s_left$s_remote" ]; do
        s_still=
        if [ -n "$s_remote" ] && ! s_lives "${s_remote%:*}" "${s_remote#*:}"; then
            s_reap_others
            [ -n "$s_ended_at" ] || s_ended_at=$s_ticks
            s_code=$s_remote_code
            s_note_bad
        fi
        for s_one in $s_left; do
            if s_lives "${s_one%:*}" "${s_one#*:}"; then
                s_still="$s_still $s_one"
                continue
            fi
            [ -n "$s_ended_at" ] || s_ended_at=$s_ticks
            s_reap "${s_one%:*}" "${s_one#*:}"
            s_codes="$s_codes ${s_one%:*}=$s_code"
            s_note_bad
        done
        s_left=$s_still
        [ -n "$s_left$s_remote" ] || return 0
        if [ -n "$s_wait" ] && [ "$s_wait" -gt 0 ] && [ -n "$s_ended_at" ] && [ -z "$s_forced" ] &&
            [ $((s_ticks - s_ended_at)) -ge $((s_wait * 10)) ]; then
            s_forced=1
            s_say "First task exited ${s_wait}s ago"
            s_say 'Job step aborted: Waiting up to 32 seconds for job step to finish.'
            s_pass TERM
            s_kill_at=$((s_ticks + 300))
        fi
        [ -z "${s_kill_at:-}" ] || [ "$s_ticks" -lt "$s_kill_at" ] || s_pass KILL
        { if sleep 0.1; then s_ticks=$((s_ticks + 1)); else sleep 1 && s_ticks=$((s_ticks + 10)); fi; } 2>/dev/null
    done
}

# ---------------------------------------------------------------- the end

s_tell_ends() { # one line an end, the tasks folded: 0-2,5
    s_rc=0 s_told=' ' s_signalled=
    for s_first in $s_codes; do
        s_code=${s_first#*=}
        [ "$s_code" -ne 0 ] || continue
        [ "$s_code" -le "$s_rc" ] || s_rc=$s_code
        case $s_told in *" $s_code "*) continue ;; esac
        s_told="$s_told$s_code "
        s_list='' s_from='' s_count=0 s_rank='' s_names=$s_ranks
        for s_one in $s_live end; do
            # The next rank; one that does not follow the last ends a run.
            s_low=${s_names%% *}
            case $s_names in *' '*) s_names=${s_names#* } ;; *) s_names='' ;; esac
            if [ -n "$s_from" ] && [ "$s_low" != $((s_rank + 1)) ]; then
                if [ "$s_from" = "$s_rank" ]; then s_list=$s_list,$s_from; else s_list=$s_list,$s_from-$s_rank; fi
                s_from=
            fi
            s_is=
            for s_other in $s_codes; do if [ "$s_other" = "${s_one%:*}=$s_code" ]; then s_is=1 && break; fi; done
            if [ -n "$s_is" ]; then
                : "${s_from:=$s_low}"
                s_count=$((s_count + 1))
            elif [ -n "$s_from" ]; then
                if [ "$s_from" = "$s_rank" ]; then s_list=$s_list,$s_from; else s_list=$s_list,$s_from-$s_rank; fi
                s_from=
            fi
            s_rank=$s_low
        done
        s_plural=
        [ "$s_count" -eq 1 ] || s_plural=s
        s_name_end "$s_code"
        [ -z "$s_signal" ] || s_signalled=1
        printf 'srun: error: %s: task%s %s: %s\n' "$SLURMD_NODENAME" "$s_plural" "${s_list#,}" "$s_text" >&2
    done
    [ "$s_remote_code" -le "$s_rc" ] || s_rc=$s_remote_code
    [ -z "$s_signalled$s_remote_signalled" ] || [ -n "$s_forced$s_part" ] || s_say "Force Terminated StepId=$SLURM_JOB_ID.$s_step"
}

s_describe_step() { # the variables of the recorded srun-env
    s_gtids='' s_umask=$(umask)
    for s_rank in $s_ranks; do s_gtids=$s_gtids,$s_rank; done
    # shellcheck disable=SC2086
    s_fold_counts $s_layout
    : "${SLURM_LAUNCH_NODE_IPADDR:=127.0.0.1}"
    export SLURM_NTASKS="$s_tasks" SLURM_NPROCS="$s_tasks" SLURM_STEP_ID="$s_step" SLURM_STEPID="$s_step" \
        SLURM_STEP_NODELIST="$s_node_list" SLURM_STEP_NUM_NODES="$s_nodes" SLURM_STEP_NUM_TASKS="$s_tasks" \
        SLURM_STEP_TASKS_PER_NODE="$s_value" SLURM_TASKS_PER_NODE="$s_value" SLURM_NODEID="${s_me:-0}" SLURM_GTIDS="${s_gtids#,}" \
        SLURM_LAUNCH_NODE_IPADDR SLURM_SRUN_COMM_HOST="$SLURM_LAUNCH_NODE_IPADDR" SLURM_UMASK="$s_umask" \
        SLURM_NNODES="$s_nodes"
    [ -z "$s_cpus_given" ] || export SLURM_CPUS_PER_TASK="$s_cpus"
    [ -z "$s_exact" ] || export SLURM_CPUS_ON_NODE="$s_need"
    [ -z "$s_per_node" ] || export SLURM_NTASKS_PER_NODE="$s_per_node"
}

s_measure() { # COMMAND: what it takes of this node, what it is called
    s_total=0 s_given=0 s_place=0
    for s_one in $s_step_cpus; do
        [ "$s_place" != "$s_me" ] || s_total=$s_one
        s_given=$((s_given + s_one)) s_place=$((s_place + 1))
    done
    s_need=$((s_count * s_cpus))
    case $s_share in *overcommit*) s_need=$((s_need > s_total ? s_total : s_need)) ;; esac
    case $s_share in *overlap*) s_need=0 ;; esac
    [ -z "$s_exact" ] || s_given=$((s_tasks * s_cpus))
    s_node_list=
    for s_one in $s_step_nodes; do s_node_list=$s_node_list,$s_one; done
    s_node_list=${s_node_list#,}
    [ "$s_step_nodes" != "$s_job_nodes" ] || s_node_list=${SLURM_JOB_NODELIST:-$s_node_list}
    s_plan_gpus
    s_name_step "$1"
}

s_take_place() { # a number and room for this step; a part has its number from the srun that was typed
    if [ -n "$s_part" ]; then
        s_steps=$SSHQ_DIR.steps
        [ ! -e "$SSHQ_DIR.exit" ] || [ -d "$s_steps" ] || mkdir "$s_steps" 2>/dev/null
        s_look "$$"
        s_mine=$s_start s_step=$s_part s_file=$s_steps/$((1000000 + s_part))
    else
        s_claim "$s_need"
    fi
    for s_one in HUP:1 INT:2 QUIT:3 USR1:10 USR2:12 ALRM:14 TERM:15 CONT:18; do
        # shellcheck disable=SC2064
        trap "s_signal ${s_one%:*} ${s_one#*:}" "${s_one%:*}"
    done
    [ -z "$s_pty" ] || trap : INT QUIT # from a terminal they come to the tasks as well
    [ -n "$s_part" ] || s_await_room "$s_need"
}

s_read_words() { # WORDS...: sets s_used, what is asked, and how it is laid out
    s_typed=
    s_variables
    s_typed=1
    s_scan "$@"
    shift "$s_used"
    if [ $# -eq 0 ]; then
        printf 'srun: fatal: No command given to execute.\n' >&2
        exit 1
    fi
    [ -z "$s_multi" ] || [ -n "$s_program_text" ] || s_read_program "$1"
    s_lay_out
    s_measure "$1"
}

s_main() {
    s_quiet='' s_tasks='' s_cpus=1 s_cpus_given='' s_per_node='' s_out='' s_err='' s_in='' s_append='' s_dir='' s_export=ALL
    s_label='' s_share='' s_exact='' s_immediate='' s_bad_exit='' s_wait='' s_live='' s_asked='' s_woken='' s_forced=''
    s_codes='' s_helpers='' s_feeder='' s_nodes='' s_starting=1 s_job_name='' s_nodes_asked='' s_tasks_asked='' s_want='' s_not='' s_distribution=''
    s_unbuffered='' s_multi='' s_bind='' s_pty='' s_remote='' s_remote_code=0 s_remote_signalled='' s_inputs='' s_fed_others=''
    s_gpus='' s_task_gpus=
    s_part=${SLURM_SSHQ_PART:-} s_program_text=${SLURM_SSHQ_PROGRAM:-}
    unset SLURM_SSHQ_PART SLURM_SSHQ_PROGRAM
    { true >&2; } 2>/dev/null || exec 2>/dev/null
    exec 6>&2
    case ${SSHQ_DIR:-} in */a/*) ;; *) s_fail 'this srun runs steps of a job of sshq, and there is none around it' ;; esac
    : "${SLURM_JOB_ID:=0}" "${SLURMD_NODENAME:=localhost}"
    s_introduce "$@"
    s_read_words "$@"
    s_take_place
    s_plan_streams
    [ "$s_exact" = '' ] || [ "$s_need" -gt 0 ] || s_exact=
    s_describe_step
    s_describe_gpus
    [ "$s_export" = ALL ] || s_restrict
    # Some shells remark on what a signal ended, whenever they notice.
    exec 2>/dev/null
    s_write_state start
    [ -z "$s_others" ] || [ -n "$s_part" ] || s_start_others "$@"
    shift "$s_used"
    if [ -n "$s_pty" ]; then s_run_front "$@"; else s_launch "$@"; fi
    exec 3<&- 4>&- 5>&-
    s_starting=
    [ -z "$s_asked" ] || s_signal "$s_asked_name" "$s_asked" # it came before all tasks were there
    if [ -n "$s_codes" ]; then
        : # it has ended in front
    elif [ -n "$s_bad_exit" ] || [ -n "$s_wait" ]; then
        s_watch
    else
        for s_each in $s_live; do
            s_reap "${s_each%:*}" "${s_each#*:}"
            s_codes="$s_codes ${s_each%:*}=$s_code"
        done
        [ -z "$s_remote" ] || s_reap_others
    fi
    [ -z "$s_feeder" ] || kill "$s_feeder"
    [ -z "$s_inputs" ] || kill "$s_inputs"
    for s_one in $s_helpers; do wait "$s_one"; done
    exec 2>&6
    s_tell_ends
    s_note_end
    s_write_state "done $s_rc"
    [ -z "$s_label$s_feeds" ] || rm -f "$s_steps/f.$s_step".*
    exit "$s_rc"
}

# Into a session of its own first, if it is not the leader of a group already: what signals the job's group must not meet
# this srun, which would pass it on once more.
# By its shell: the spool may lie where nothing can be executed.
# shellcheck disable=SC2086 # s_shell: a path and perhaps one argument
if [ -n "${SSHQ_TERMINAL:-}" ]; then # terminal.sh: the session is the terminal's
    unset SSHQ_TERMINAL
elif s_look "$$" && [ "$s_group" != "$$" ] && [ -n "${SSHQ_DIR:-}" ]; then
    case $s_setsid in
    setsid) exec "$s_setsid_bin" $s_shell "$0" "$@" ;;
    perl) exec "$s_setsid_bin" -e "$s_perl_setsid" $s_shell "$0" "$@" ;;
    python3) exec "$s_setsid_bin" -I -S -c "$s_python_setsid" $s_shell "$0" "$@" ;;
    esac
fi
s_main "$@"
