#!/bin/sh
# srun inside a job: what a step tells of itself, in its file; steps.sh reads it.  See srun.sh.
# shellcheck disable=SC2034,SC2154 # variables shared with srun.sh
#
#   1 PID START CPUS STATE [CODE]    of this srun; STATE: wait, start, run, done, or never; CPUs it holds; code of the step
#   s TASKS NODES CPUS BEGAN ENDED USER SYSTEM    CPUs given to it; uptimes; what `times` says of its tasks
#   w NODELIST    n NAME    l COMMAND LINE    g GPUS (srun_gpus.sh)
#   u PID START                      what looks after its tasks on other nodes
#   t PID START                      a task: leader of a session and group of its own, so that a signal reaches it once

s_flatten() { # TEXT: sets s_value to it on one line, without tabs, at most s_most bytes of it or so
    s_value=$1
    while :; do case $s_value in *"$s_newline"*) s_value="${s_value%%"$s_newline"*} ${s_value#*"$s_newline"}" ;; *) break ;; esac done
    while :; do case $s_value in *"$s_tab"*) s_value="${s_value%%"$s_tab"*} ${s_value#*"$s_tab"}" ;; *) break ;; esac done
    [ "${#s_value}" -le "$s_most" ] || s_value=$(printf "%.${s_most}s" "$s_value")
}

s_introduce() { # WORDS OF SRUN...: what is told of this step, before its options are read
    s_newline='
' s_tab='	' s_began='' s_ended=- s_used_user=- s_used_system=- s_most=900
    s_line=srun
    for s_one in "$@"; do
        s_line="$s_line $s_one"
        [ "${#s_line}" -lt "$s_most" ] || break
    done
    s_flatten "$s_line"
    s_line=$s_value
}

s_name_step() { # COMMAND
    s_most=200
    s_flatten "${s_job_name:-${1##*/}}"
    s_title=$s_value s_most=900
}

s_clock() { read -r s_uptime _ </proc/uptime; }

s_note_end() { # the clock, and what the tasks have used
    s_clock
    s_ended=$s_uptime
    { times; } >|"$s_steps/f.$s_step" && { read -r _ && read -r s_used_user s_used_system; } <"$s_steps/f.$s_step"
    case $s_used_user$s_used_system in *[!0-9ms.]*) s_used_user=- s_used_system=- ;; esac # another shell's way to say it
    : "${s_used_user:=-}" "${s_used_system:=-}"
} 2>/dev/null

# s_write_state STATE [TASK...]: by rename, so that nobody reads a step that is neither
s_write_state() {
    [ -n "$s_began" ] || { s_clock && s_began=$s_uptime; }
    {
        printf '1 %s %s %s %s\n' "$$" "$s_mine" "$s_need" "$1"
        printf 's %s %s %s %s %s %s %s\n' "$s_tasks" "$s_nodes" "$s_given" "$s_began" "$s_ended" "$s_used_user" "$s_used_system"
        printf 'w %s\nn %s\nl %s\n' "$s_node_list" "$s_title" "$s_line"
        [ -z "$s_gpu_line" ] || printf 'g %s\n' "$s_gpu_line"
        shift
        [ -z "$s_remote" ] || printf 'u %s %s\n' "${s_remote%:*}" "${s_remote#*:}"
        for s_one in "$@"; do printf 't %s %s\n' "${s_one%:*}" "${s_one#*:}"; done
    } >|"$s_steps/f.$s_step" && mv -f "$s_steps/f.$s_step" "$s_file"
} 2>/dev/null

s_name_end() { # CODE: sets s_text as Slurm names it
    s_signal=
    [ "$1" -le 128 ] || s_signal=$(($1 - 128))
    case $s_signal in
    1) s_text=Hangup ;;
    2) s_text=Interrupt ;;
    3) s_text=Quit ;;
    4) s_text='Illegal instruction' ;;
    5) s_text='Trace/breakpoint trap' ;;
    6) s_text=Aborted ;;
    7) s_text='Bus error' ;;
    8) s_text='Floating point exception' ;;
    9) s_text=Killed ;;
    10) s_text='User defined signal 1' ;;
    11) s_text='Segmentation fault' ;;
    12) s_text='User defined signal 2' ;;
    13) s_text='Broken pipe' ;;
    14) s_text='Alarm clock' ;;
    15) s_text=Terminated ;;
    24) s_text='CPU time limit exceeded' ;;
    25) s_text='File size limit exceeded' ;;
    *) s_signal='' s_text="Exited with exit code $1" ;;
    esac
}
