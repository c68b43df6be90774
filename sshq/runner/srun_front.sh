#!/bin/sh
# srun inside a job: its one task on a terminal (--pty).  See srun.sh.
# shellcheck disable=SC2034,SC2154 # variables shared with srun.sh

# s_run_front COMMAND...: in front, not asynchronous, so that no shell takes INT and QUIT away from it; in our session, whose the
# terminal is.  Sets s_live and s_codes.
s_run_front() {
    (
        read -r s_pid _ </proc/self/stat
        s_look "$s_pid"
        s_write_state run "$s_pid:$s_start"
        exec <&3 >&4 2>&5
        s_setsid='' s_signals=''
        s_run_task 0 0 "$@"
    )
    s_code=$?
    [ "$s_code" -le 256 ] || s_code=$((s_code - 128)) # ksh, of a signal
    s_pid=0 s_start=0
    while read -r s_one s_first s_other _; do [ "$s_one" != t ] || s_pid=$s_first s_start=$s_other; done <"$s_file"
    s_live=" $s_pid:$s_start" s_codes=" $s_pid=$s_code"
}
