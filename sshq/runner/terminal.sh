# A terminal in a job: what stands below the request of such a part, run by `exec /bin/sh` on a channel with a terminal.  This
# process leads the session; when the line is lost the kernel hangs up on it, and on what runs in front.
# shellcheck shell=sh disable=SC2034,SC2154,SC2329 # variables of the request
h_part=${0%/*}
h_token=${h_part##*/}
h_parts=${h_part%/*}
h_own_dir=${h_parts%.parts}
h_attempt=${h_own_dir##*/}
[ "$part_whole" = 1 ] || exit 1
set -C
{ true >"$h_part/go"; } 2>/dev/null || exit 1
set +C
if [ -p "$h_part/leash" ]; then
    exec 7>"$h_part/leash" || exit 1 # waits for the holder
else
    exec 7>/dev/null # a guest in a job that has none
fi
h_term=${TERM:-dumb}
unset SSH_CLIENT SSH_CONNECTION SSH_TTY SSH_AUTH_SOCK
# shellcheck disable=SC1091
[ ! -e "$h_parts/environ" ] || . "$h_parts/environ"
h_node=${SLURMD_NODENAME:-node}
part_environ
export TERM="$h_term" SSHQ_ATTEMPT="$h_attempt" SSHQ_DIR="$h_own_dir" SSHQ_TERMINAL=1
[ -n "$part_work" ] || part_work=$PWD # the holder's
[ ! -d "${h_own_dir%/a/*}/bin" ] || export PATH="${h_own_dir%/a/*}/bin:$PATH"
[ -z "$part_umask" ] || umask "$part_umask"
if [ -n "$part_work" ] && ! cd -- "$part_work" 2>/dev/null; then
    if [ -d "$part_work" ]; then h_cause='Permission denied'; elif [ -e "$part_work" ]; then h_cause='Not a directory'; else h_cause='No such file or directory'; fi
    printf "slurmstepd-%s: error: couldn't chdir to \`%s': %s: going to /tmp instead\n" "$h_node" "$part_work" "$h_cause" >&2
    cd /tmp || cd /
fi
export PWD
h_run() { "$@" 7>&-; }
trap : INT QUIT # they are for what runs in front
read -r h_pid h_stat 2>/dev/null </proc/self/stat
# shellcheck disable=SC2086
set -- ${h_stat##*') '}
shift 19
printf '%s %s\n' "$h_pid" "$1" >|"$h_part/pid"
with_part h_run
h_code=$?
[ "$h_code" -le 256 ] || h_code=$((h_code - 128))
printf '%s\n' "$h_code" >&7
exit "$h_code"
