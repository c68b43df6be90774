#!/bin/sh
# srun inside a job: on which of its nodes a step runs, which tasks on each, and what is asked of the other nodes.  See srun.sh.
# shellcheck disable=SC2034,SC2154 # variables shared with srun.sh
#
# The srun that was typed lays the step out and runs the tasks of its own node.  For the others it asks the controller
# (`upcall step`), which has the holder of each start this same program with the same words and SLURM_SSHQ_PART, the number of the
# step: it comes to the same layout, and runs the tasks of its node.  So options mean the same everywhere.

s_strip() { # NUMBER: sets s_value without leading zeros, which would make it octal
    s_value=$1
    while :; do case $s_value in 0?*) s_value=${s_value#0} ;; *) break ;; esac done
}

s_expand_names() { # HOSTLIST: sets s_names
    s_names='' s_left=$1,
    while [ -n "$s_left" ]; do
        s_item=${s_left%%,*}
        case $s_item in
        *\[*)
            s_head=${s_left%%\[*} s_left=${s_left#*\[}
            s_ranges=${s_left%%\]*}, s_left=${s_left#*\]}
            s_tail=${s_left%%,*} s_left=${s_left#*,}
            while [ -n "$s_ranges" ]; do
                s_one=${s_ranges%%,*} s_ranges=${s_ranges#*,}
                s_width=${s_one%-*}
                s_width=${#s_width}
                s_strip "${s_one#*-}" && s_high=$s_value
                s_strip "${s_one%-*}" && s_low=$s_value
                while [ "$s_low" -le "$s_high" ] 2>/dev/null; do
                    s_pad "$s_low"
                    s_names="$s_names $s_head$s_value$s_tail"
                    s_low=$((s_low + 1))
                done
            done
            ;;
        *)
            s_left=${s_left#*,}
            [ -z "$s_item" ] || s_names="$s_names $s_item"
            ;;
        esac
    done
}

s_expand_counts() { # 6,2(x2): sets s_counts
    s_counts='' s_left=$1,
    while [ -n "$s_left" ]; do
        s_item=${s_left%%,*} s_left=${s_left#*,} s_low=1
        case $s_item in *'(x'*) s_low=${s_item#*x} && s_low=${s_low%?} ;; esac
        s_one=${s_item%%[!0-9]*}
        while [ "$s_low" -gt 0 ] 2>/dev/null; do
            s_counts="$s_counts ${s_one:-1}"
            s_low=$((s_low - 1))
        done
    done
}

s_fold_counts() { # COUNT...: sets s_value to 6,2(x2)
    s_value='' s_low=0
    while [ $# -gt 0 ]; do
        s_low=$((s_low + 1))
        if [ "$1" != "${2:-}" ]; then
            s_value=$s_value,$1
            [ "$s_low" -eq 1 ] || s_value="$s_value(x$s_low)"
            s_low=0
        fi
        shift
    done
    s_value=${s_value#,}
}

s_is_among() { case " $2 " in *" $1 "*) ;; *) return 1 ;; esac } # NAME NAMES

# A task of a step may begin one in its turn; but only the job's first node can ask for others.
s_stay_here() {
    s_expand_names "${SLURM_JOB_NODELIST:-$SLURMD_NODENAME}"
    s_names=${s_names# }
    if [ "${s_names%% *}" = "$SLURMD_NODENAME" ] || ! s_is_among "$SLURMD_NODENAME" "$s_names"; then return; fi
    if [ "${s_nodes_asked:+$s_nodes}" -gt 1 ] 2>/dev/null || [ "${s_want:-$SLURMD_NODENAME}" != "$SLURMD_NODENAME" ]; then
        s_fail "a step that begins on $SLURMD_NODENAME runs there alone: only ${s_names%% *}, the first node of the job, can ask for others"
    fi
    s_nodes=1 s_want=$SLURMD_NODENAME
    [ -n "$s_tasks_asked" ] || s_tasks=
}

s_choose_nodes() { # sets s_step_nodes, s_step_cpus and s_nodes
    s_expand_names "${SLURM_JOB_NODELIST:-$SLURMD_NODENAME}" && s_job_nodes=$s_names
    s_expand_counts "${SLURM_JOB_CPUS_PER_NODE:-1}"
    [ -z "$s_want" ] || { s_expand_names "$s_want" && s_want=$s_names; }
    [ -z "$s_not" ] || { s_expand_names "$s_not" && s_not=$s_names; }
    for s_one in $s_want; do s_is_among "$s_one" "$s_job_nodes" || s_refuse 'Requested node configuration is not available'; done
    s_step_nodes='' s_step_cpus='' s_found=0 s_local_only=
    # One node, and which does not matter: the one we are on, where nothing need be asked.
    if [ "$s_nodes" = 1 ] && [ -z "$s_want$s_not" ] && s_is_among "$SLURMD_NODENAME" "$s_job_nodes"; then s_local_only=1; fi
    for s_one in $s_job_nodes; do
        s_counts=${s_counts# }
        s_number=${s_counts%% *} s_counts=${s_counts#* }
        if [ -n "$s_want" ] && ! s_is_among "$s_one" "$s_want"; then continue; fi
        if s_is_among "$s_one" "$s_not"; then continue; fi
        if [ -n "$s_local_only" ] && [ "$s_one" != "$SLURMD_NODENAME" ]; then continue; fi
        if [ -n "$s_nodes" ] && [ "$s_found" -ge "$s_nodes" ]; then continue; fi
        s_found=$((s_found + 1))
        s_step_nodes="$s_step_nodes $s_one" s_step_cpus="$s_step_cpus $s_number"
    done
    [ "$s_found" -gt 0 ] || s_refuse 'Requested node configuration is not available'
    if [ -n "$s_nodes_asked" ] && [ "$s_found" -lt "$s_nodes" ]; then s_refuse 'Requested node configuration is not available'; fi
    s_nodes=$s_found
}

# s_lay_out: how many tasks each node has, and which.  As Slurm's: dealt out one by one to see how many, then given to the nodes
# block by block, or as they were dealt (cyclic).  Sets s_layout (counts), s_ranks (of this node), s_me (its place), s_others.
s_lay_out() {
    [ -n "$s_part" ] || s_stay_here
    [ -n "$s_nodes_asked" ] || [ -z "$s_tasks" ] || [ -z "$s_nodes" ] || [ "$s_tasks" -ge "$s_nodes" ] || s_fewer
    s_choose_nodes
    if [ -n "$s_tasks" ] && [ "$s_tasks" -lt "$s_nodes" ]; then
        s_fewer
        s_choose_nodes
    fi
    : "${s_tasks:=$((s_nodes * ${s_per_node:-1}))}"
    s_place=0
    for s_one in $s_step_cpus; do
        s_low=$((s_one / s_cpus))
        case $s_share in *overcommit*) s_low=$s_tasks ;; esac
        if [ -n "$s_per_node" ] && [ "$s_low" -gt "$s_per_node" ] && [ "$s_tasks" -le $((s_per_node * s_nodes)) ]; then s_low=$s_per_node; fi
        eval "s_cap_$s_place=\$s_low s_has_$s_place=0 s_dealt_$s_place="
        s_place=$((s_place + 1))
    done
    s_rank=0
    while [ "$s_rank" -lt "$s_tasks" ]; do
        s_place=0 s_before=$s_rank
        while [ "$s_place" -lt "$s_nodes" ] && [ "$s_rank" -lt "$s_tasks" ]; do
            eval "s_low=\$s_has_$s_place s_high=\$s_cap_$s_place"
            if [ "$s_low" -lt "$s_high" ]; then
                eval "s_has_$s_place=$((s_low + 1)) s_dealt_$s_place=\"\$s_dealt_$s_place $s_rank\""
                s_rank=$((s_rank + 1))
            fi
            s_place=$((s_place + 1))
        done
        [ "$s_rank" -gt "$s_before" ] || s_refuse 'More processors requested than permitted'
    done
    s_layout='' s_me='' s_ranks='' s_others='' s_place=0 s_rank=0
    for s_one in $s_step_nodes; do
        eval "s_low=\$s_has_$s_place s_dealt=\$s_dealt_$s_place"
        s_layout="$s_layout $s_low"
        if [ "$s_one" = "$SLURMD_NODENAME" ]; then
            s_me=$s_place
            case $s_distribution in
            cyclic*) s_ranks=$s_dealt ;;
            *) while [ "$s_low" -gt 0 ]; do s_ranks="$s_ranks $s_rank" s_rank=$((s_rank + 1)) s_low=$((s_low - 1)); done ;;
            esac
        else
            [ "$s_low" -eq 0 ] || s_others="$s_others,$s_one"
        fi
        s_rank=$((s_rank + s_low)) s_place=$((s_place + 1))
    done
    s_others=${s_others#,} s_ranks=${s_ranks# }
    s_count=0
    for s_one in $s_ranks; do s_count=$((s_count + 1)); done
}

s_fewer() {
    [ -n "$s_part" ] || s_say "Warning: can't run $s_tasks processes on $s_nodes nodes, setting nnodes to $s_tasks"
    s_nodes=$s_tasks
}

s_choose_cpu() { # PLACE: sets s_value to words of taskset, from the list of --cpu-bind, which is begun again at its end
    s_left=${s_bind#*_cpu:}
    set -- "$1" "$s_left"
    s_low=1
    while :; do case $s_left in *,*) s_left=${s_left#*,} s_low=$((s_low + 1)) ;; *) break ;; esac done
    s_place=$(($1 % s_low)) s_left=$2
    while [ "$s_place" -gt 0 ]; do s_left=${s_left#*,} s_place=$((s_place - 1)); done
    s_left=${s_left%%,*}
    case $s_left in *[!0-9a-fA-Fx]* | '') return 1 ;; esac
    case $s_bind in *map_cpu:*) s_value="-c $s_left" ;; *) s_value=$s_left ;; esac
}

# ---------------------------------------------------------------- several programs

s_read_program() { # FILE of --multi-prog
    [ -r "$1" ] && [ ! -d "$1" ] || s_fail "Unable to open configuration file $1"
    s_program_text=
    while IFS= read -r s_line_of || [ -n "$s_line_of" ]; do s_program_text="$s_program_text$s_line_of$s_newline"; done <"$1"
}

# s_find_program RANK: sets s_value to its words: `RANKS PROGRAM WORDS`, with %t and %o.  Quotes hold words together.
s_find_program() {
    s_value='' s_left=$s_program_text
    while [ -n "$s_left" ]; do
        s_item=${s_left%%"$s_newline"*} s_left=${s_left#*"$s_newline"}
        s_item=${s_item#"${s_item%%[!" $s_tab"]*}"}
        case $s_item in '' | '#'*) continue ;; esac
        s_ranges=${s_item%%[" $s_tab"]*}, s_item=${s_item#*[" $s_tab"]}
        s_low=0
        while [ -n "$s_ranges" ]; do
            s_one=${s_ranges%%,*} s_ranges=${s_ranges#*,}
            case $s_one in
            '*') s_place_of=$s_low ;;
            *-*) if [ "$1" -ge "${s_one%-*}" ] && [ "$1" -le "${s_one#*-}" ]; then s_place_of=$((s_low + $1 - ${s_one%-*})); else
                s_low=$((s_low + ${s_one#*-} - ${s_one%-*} + 1))
                continue
            fi ;;
            "$1") s_place_of=$s_low ;;
            *)
                s_low=$((s_low + 1))
                continue
                ;;
            esac
            [ "$s_one" != '*' ] || s_place_of=$1
            s_quote_program "$1" "$s_place_of" "$s_item"
            return
        done
    done
    s_value="false"
    printf 'srun: error: No program is given for task %s in the configuration file\n' "$1" >&6
}

s_quote_program() { # RANK PLACE TEXT: sets s_value to it with each word in single quotes, %t and %o replaced
    s_value='' s_word='' s_in_quote='' s_any='' s_text_left="$3 "
    while [ -n "$s_text_left" ]; do
        s_letter=${s_text_left%"${s_text_left#?}"} s_text_left=${s_text_left#?}
        case $s_in_quote$s_letter in
        *%) # in quotes as well
            case $s_text_left in
            t*) s_word=$s_word$1 s_text_left=${s_text_left#t} ;;
            o*) s_word=$s_word$2 s_text_left=${s_text_left#o} ;;
            *) s_word=$s_word% ;;
            esac
            ;;
        "''" | '""') s_in_quote='' ;;
        \'?* | \"?*) s_word=$s_word$s_letter ;;
        \' | \") s_in_quote=$s_letter s_any=1 ;;
        ' ' | "$s_tab")
            if [ -n "$s_word$s_any" ]; then
                s_replace_marks "$1" "$2"
                s_value="$s_value '$s_word'"
            fi
            s_word='' s_any=
            ;;
        *) s_word=$s_word$s_letter ;;
        esac
    done
}

s_replace_marks() { # a single quote within a word would end its quotes
    s_item=$s_word s_word=
    while :; do
        case $s_item in
        *\'*) s_word="$s_word${s_item%%\'*}'\\''" s_item=${s_item#*\'} ;;
        *) s_word=$s_word$s_item && return ;;
        esac
    done
}

# ---------------------------------------------------------------- the other nodes

s_upcall() { # VERB WORDS...: a command in a process of its own, whose pid is $!
    # shellcheck disable=SC2086 # s_shell: a path and perhaps one argument
    exec $s_shell "${SSHQ_DIR%/a/*}/bin/upcall" "$@"
}

s_start_others() { # WORDS OF SRUN...: in the background; its output is the other tasks' output
    s_flags=
    [ -z "$s_bad_exit" ] || s_flags=K
    [ -z "$s_fed_others" ] || s_flags=${s_flags}I
    [ -z "$s_unbuffered" ] || s_flags=${s_flags}u
    if [ -n "$s_fed_others" ]; then
        mkfifo "$s_steps/f.$s_step.others.in"
        (s_upcall step_input "$s_step" "$s_others" <"$s_steps/f.$s_step.others.in") >/dev/null 2>&6 3<&- 4>&- 5>&- &
        s_inputs=$!
    fi
    (s_upcall step "$s_step" "$s_others" "-$s_flags" "$s_program_text" "$@" </dev/null) >&4 2>&5 3<&- 6>&- &
    s_remote=$!
    s_look "$s_remote" || s_start=0
    s_remote=$s_remote:$s_start
}

s_pass_others() { # SIGNAL
    [ -n "$s_remote" ] || return 0
    (s_upcall step_signal "$s_step" "$s_others" "$1" </dev/null) >/dev/null 2>&1 3<&- 4>&- 5>&- 6>&- &
}

s_reap_others() { # sets s_remote_code
    s_reap "${s_remote%:*}" "${s_remote#*:}"
    s_remote='' s_remote_code=$s_code
    if [ "$s_code" -eq 254 ]; then
        s_remote_code=1
        printf 'srun: error: the controller was restarted while StepId=%s.%s ran on other nodes: its tasks there were ended\n' \
            "$SLURM_JOB_ID" "$s_step" >&6
    fi
    [ "$s_remote_code" -le 128 ] || s_remote_signalled=1
}
