#!/bin/sh
# The job's process of a container job, on its node: it has an engine make a container, start it, waits for its end and removes it.
# Sent in front of the job's own part (container.py), which sets box_engine, box_image, box_pull, box_gpus, box_workdir, box_node,
# box_seconds, the functions box_mounts, box_script and box_init, and calls box_main.
#
# The container is named sshq-ID, and `a/ID.box` says so before the engine is asked for it: whoever ends a launch (the supervisor,
# or who stands in for it) removes it and proves that it is gone (sshq/runner/box.sh).  Two steps, create and start: an engine that
# is still busy with a `create` whose client was killed leaves something that does not run.
#
# Nobody here passes signals on: what runs in the container carries the job's cookie, so the supervisor's signals reach it as they
# reach any process of a job.  Its pid 1 is a sh of ours, to which the kernel delivers no signal that it does not wait for.
#
# What is written into the container, at /.sshq: init (what its pid 1 runs: environment, streams, command) and the script.  Its pid
# 1 says there, in `how`, how the script ended: no engine knows whether a signal ended it or it said 128+n, some say 0 of a
# container that their own restart ended, and one that hangs says nothing.  Without that word it was no success.
#
# Engines hang, so nothing is asked without a limit, but for a pull, which has that of the job.
# shellcheck disable=SC2034,SC2154 # shared with the other parts

box_fail() { # TEXT [HINT]
    printf 'sshq: error: %s: %s\n' "$box_node" "$1" >&2
    [ -z "${2:-}" ] || printf '    hint: %s\n' "$2" >&2
    box_leave 125
}

box_link() { # FD: where it leads, in box_target; false if no path leads there.  This shell's own: nothing is redirected meanwhile
    box_target=$(ls -l "/proc/$$/fd/$1" 2>/dev/null && printf x)
    box_target=${box_target#*"/fd/$1 -> "}
    box_target=${box_target%?x}
    # shellcheck disable=SC3013 # every sh has it
    case $box_target in /*) [ "$box_target" -ef "/proc/$$/fd/$1" ] ;; *) return 1 ;; esac
}

# box_mount SOURCE TARGET rw|ro: adds its words to those of the engine, quoted, in box_words.  A colon cannot be written in -v, and in --mount
# a comma only for docker.
box_mount() {
    case $1 in /*) ;; *) box_fail "$1 cannot be mounted in a container: not an absolute path" ;; esac
    [ -e "$1" ] || box_fail "$1 cannot be mounted in a container: no such file or directory, or not to be reached by $USER"
    case $box_engine:$1$2 in
    apptainer:*[:,]* | singularity:*[:,]*) box_fail "$1 cannot be mounted in a container: $box_engine takes no path with a colon or comma" ;;
    apptainer:* | singularity:*)
        box_add --bind
        box_add "$1:$2:$3"
        ;;
    podman:*:*[,\"]* | podman:*[,\"]*:*) box_fail "$1 cannot be mounted in a container: podman takes no path with both a colon and a comma or quote" ;;
    docker:*[:\"]*)
        box_field=''
        box_csv "source=$1" && box_csv "target=$2"
        box_add --mount
        box_add "type=bind,$box_field$([ "$3" = rw ] || printf readonly)"
        ;;
    podman:*:*)
        box_add --mount
        box_add "type=bind,source=$1,target=$2$([ "$3" = rw ] || printf ,ro)"
        ;;
    *)
        box_add -v
        box_add "$1:$2:$3"
        ;;
    esac
}

box_csv() { # FIELD: adds it to box_field, as csv quotes
    box_rest=$1 box_field="$box_field\""
    while :; do
        case $box_rest in
        *\"*) box_field="$box_field${box_rest%%\"*}\"\"" box_rest=${box_rest#*\"} ;;
        *) break ;;
        esac
    done
    box_field="$box_field$box_rest\","
}

box_add() { # WORD: single-quoted, so that eval gives it back whatever it holds
    box_rest=$1 box_words="$box_words '"
    while :; do
        case $box_rest in
        *\'*) box_words="$box_words${box_rest%%\'*}'\\''" box_rest=${box_rest#*\'} ;;
        *) break ;;
        esac
    done
    box_words="$box_words$box_rest'"
}

box_find_image() {
    case $box_engine in
    apptainer | singularity)
        [ ! -e "$box_image" ] || return 0
        case $box_image in
        /* | ./* | ../* | *.sif | *.img) box_fail "no image $box_image there" "$box_engine takes an image's file or directory, or docker://NAME with --container-pull=missing" ;;
        *://*) ;;
        *) box_image=docker://$box_image ;;
        esac
        [ "$box_pull" != never ] || box_fail "no image file ${box_image#docker://} there, and --container-pull=never" \
            "--container-pull=missing lets $box_engine fetch it"
        return
        ;;
    esac
    box_image=${box_image#docker://}
    # Asked also where it will be pulled all the same: a pull has no limit of its own.
    box_said=$(box_ask "$BOX_ASK_S" image inspect "$box_image" 2>&1 >/dev/null)
    box_answered $?
    [ "$box_status" -ne 0 ] || [ "$box_pull" = always ] || return 0
    if [ "$box_status" -ne 0 ]; then
        case $box_said in
        *'o such image'* | *'image not known'* | *'not known'* | *'unable to find'* | *'failed to find image'*) ;;
        *) box_fail "$box_engine cannot be asked for the image $box_image: $(box_brief "$box_said")" "$box_engine info, there" ;;
        esac
        [ "$box_pull" != never ] || box_fail "$box_engine there has no image $box_image, and --container-pull=never" \
            "$box_engine pull $box_image there, or sbatch --container-pull=missing"
    fi
    box_said=$(box_run pull -q "$box_image" 2>&1 >/dev/null) && return
    box_told
    box_fail "$box_engine cannot pull the image $box_image (--container-pull=$box_pull): $(box_brief "$box_said")"
}

box_answered() { # STATUS of box_ask, kept in box_status: ends the job if there was no answer, or it is to end
    box_status=$1
    box_told
    [ "$1" -ne 124 ] || {
        box_deaf=1
        box_fail "$box_engine does not answer" "$box_engine info, there; the job can be submitted again, or elsewhere"
    }
}

box_brief() { # TEXT: the line that tells most
    box_line=''
    while IFS= read -r box_next || [ -n "$box_next" ]; do
        case $box_next in *[Ee]rror*) box_line=$box_next && break ;; '') ;; *) box_line=$box_next ;; esac
    done <<EOT
$1
EOT
    printf '%s' "${box_line:-no word of it}"
}

box_told() { [ -z "$box_end" ] || box_leave 143; } # to end: before the container ran, nobody else hears it

box_write() { # what the container reads
    box_script >"$SSHQ_DIR.boxd/script" && true >"$SSHQ_DIR.boxd/in" && true >"$SSHQ_DIR.boxd/out" && true >"$SSHQ_DIR.boxd/err" &&
        printf '%63s\n' '' >"$SSHQ_DIR.boxd/how" && [ -s "$SSHQ_DIR.boxd/how" ] && # so long that its last word needs no space
        {
            printf 'umask %s\n' "$(umask)"
            printf "export SSHQ_ATTEMPT='%s' SLURM_TASK_PID='%s'\n" "$SSHQ_ATTEMPT" "$$"
            [ -z "${SSHQ_SLOT:-}" ] || printf "export SSHQ_SLOT='%s'\n" "$SSHQ_SLOT"
            [ -z "$box_tmp" ] || printf "export TMPDIR='%s'\n" "$box_tmp"
            printf '%s' "$box_streams"
            box_init && printf '%s\n' "$box_last"
        } >"$SSHQ_DIR.boxd/init" && [ -s "$SSHQ_DIR.boxd/init" ]
}

box_streams() { # the container writes where the job's output goes, itself: no engine in between
    box_streams=''
    case $box_engine in podman | docker) box_mount "$SSHQ_DIR.boxd/how" /.sshq/how rw ;; esac
    box_link 1 || box_fail "the job's output leads to no file that could be mounted"
    box_mount "$box_target" /.sshq/out rw
    box_streams='exec >>/.sshq/out'
    # shellcheck disable=SC3013
    if [ "/proc/$$/fd/1" -ef "/proc/$$/fd/2" ]; then
        box_streams="$box_streams 2>&1"
    else
        box_link 2 || box_fail "the job's error output leads to no file that could be mounted"
        box_mount "$box_target" /.sshq/err rw
        box_streams="$box_streams 2>>/.sshq/err"
    fi
    box_link 0 || box_fail "the job's input is no file that could be mounted"
    if [ "$box_target" != /dev/null ]; then
        box_mount "$box_target" /.sshq/in ro
        box_streams="$box_streams </.sshq/in"
    fi
    box_streams="$box_streams
"
}

box_gpu_words() {
    # shellcheck disable=SC2086 # the ids, a word each
    set -- $box_gpus
    [ $# -gt 0 ] || return 0
    box_vendor=$1
    shift
    case $box_engine:$box_vendor in
    apptainer:nvidia | singularity:nvidia) box_add --nv ;;
    apptainer:* | singularity:*) box_add --rocm ;;
    docker:nvidia)
        box_list=''
        for box_id in "$@"; do box_list="$box_list${box_list:+,}$box_id"; done
        box_add --gpus
        box_add "\"device=$box_list\""
        ;;
    podman:nvidia)
        for box_id in "$@"; do
            box_add --device
            box_add "nvidia.com/gpu=$box_id"
        done
        ;;
    *) # ROCm: the variables choose among them
        for box_id in /dev/kfd /dev/dri; do
            [ -e "$box_id" ] || continue
            box_add --device
            box_add "$box_id"
        done
        ;;
    esac
}

box_gpu_hint() { # most engines have to be told of GPUs once, by whoever looks after the host
    case $box_engine:${box_gpus%% *}:$box_said in
    podman:nvidia:*CDI*) printf 'sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml, there' ;;
    docker:nvidia:*'device driver'*) printf 'sudo nvidia-ctk runtime configure --runtime=docker, there, and restart docker' ;;
    esac
}

box_places() { # what is mounted of the node
    box_home=$PWD # a tree that goes along is there as a whole, wherever in it the job starts
    [ -z "$box_below" ] || box_home=${PWD%"/$box_below"}
    [ "$box_home" = / ] || box_mount "$box_home" "$box_home" rw
    case ${TMPDIR:-} in /tmp/sshq-*) box_tmp=$TMPDIR && box_mount "$TMPDIR" "$TMPDIR" rw ;; esac
    box_mount "$SSHQ_DIR.boxd" /.sshq ro
    box_mounts
}

box_main() {
    box_name=sshq-$SSHQ_ATTEMPT box_words='' box_end='' box_deaf='' box_tmp='' box_xdg='' box_streams=''
    trap box_end=1 TERM INT
    trap : HUP QUIT ALRM USR1 USR2
    [ ! -d "/run/user/$(id -u)" ] || box_xdg=/run/user/$(id -u)
    command -v "$box_engine" >/dev/null || box_fail "$box_engine is not there" "sshq_container in the inventory; sshq hosts"
    box_find_image
    { mkdir -m 700 "$SSHQ_DIR.boxd" && true >"$SSHQ_DIR.boxd/how"; } || box_fail "cannot write to the spool: no space left?"
    box_places
    box_gpu_words
    case $box_engine in apptainer | singularity) box_become ;; esac
    box_streams
    # What its sh says itself goes to `how`: dash, busybox and bash say `Killed` there, and nothing of one that said 137.  Some redirect
    # a command in themselves, so not that.  What was killed for memory the kernel counts, in the container's own control group; not
    # each engine tells.
    # shellcheck disable=SC2016 # expanded by the sh in the container
    box_last='sshq_look() {
    sshq_count=0
    for sshq_file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
        [ -r "$sshq_file" ] || continue
        while read -r sshq_key sshq_value; do [ "$sshq_key" != oom_kill ] || sshq_count=$sshq_value; done <"$sshq_file"
    done
}
sshq_look
sshq_before=$sshq_count
exec 4>&2 2<>/.sshq/how
(exec "$@" 2>&4 4>&-)
set -- $?
sshq_look
if [ "$sshq_count" = "$sshq_before" ]; then sshq_count=""; else sshq_count=oom; fi
echo "end $1 ${BASH_VERSION:+bash} $sshq_count" >&2
exit "$1"'
    box_write || box_fail "cannot write to the spool: no space left?"
    { printf '1 %s %s\n' "$box_engine" "$box_name" >"$SSHQ_DIR.box" && [ -s "$SSHQ_DIR.box" ]; } || box_fail "cannot write to the spool: no space left?"
    box_told
    box_create
    box_told
    box_start
    box_note_image
    box_wait
}

box_create() {
    case $box_engine in
    podman)
        box_add --pull=never
        if [ "$(id -u)" = 0 ]; then box_user; else box_add --userns=keep-id; fi
        ;;
    docker)
        if box_is_rootless; then # root there is this account, and everybody else a subordinate id
            box_add --user
            box_add 0:0
        else
            box_user
            for box_id in $(id -G); do
                box_add --group-add
                box_add "$box_id"
            done
        fi
        box_add --security-opt
        box_add no-new-privileges
        ;;
    esac
    # The host's network, names and shared memory, as of any job (a rootless docker cannot give its own away); its own processes, so
    # that nothing outlives the first of them.
    box_is_rootless || box_words="--ipc host $box_words"
    eval "set -- create --name '$box_name' --label sshq=1 --network host --security-opt label=disable --log-driver none \
        --restart no --entrypoint /bin/sh -e 'SSHQ_ATTEMPT=$SSHQ_ATTEMPT' $box_words"
    if [ -n "$box_workdir" ]; then set -- "$@" -w "$box_workdir"; else set -- "$@" -w "$PWD"; fi
    box_said=$(box_ask "$BOX_MAKE_S" "$@" "$box_image" /.sshq/init 2>&1 >/dev/null)
    box_answered $?
    [ "$box_status" -ne 0 ] || return 0
    box_fail "$box_engine cannot make the container: $(box_brief "$box_said")" "$(box_gpu_hint)"
}

box_user() {
    box_add --user
    box_add "$(id -u):$(id -g)"
}

box_start() {
    box_said=$(box_ask "$BOX_MAKE_S" start "$box_name" 2>&1 >/dev/null)
    box_answered $?
    [ "$box_status" -ne 0 ] || return 0
    case $box_said in
    *'"/bin/sh"'*'no such file'* | *'/bin/sh: no such file'*) box_fail "the image $box_image has no /bin/sh, which runs the job in it" ;;
    esac
    box_fail "$box_engine cannot start the container: $(box_brief "$box_said")" "$(box_gpu_hint)"
}

# box_note_image: which image it is, by the engine's own name for its content; asked when the job runs already, so that nobody waits.
# Of no consequence where there is no answer.
box_note_image() {
    box_id=$(box_ask "$BOX_ASK_S" container inspect --format '{{.Image}}' "$box_name" 2>/dev/null) || return 0
    printf '%s\n' "${box_id#sha256:}" >"$SSHQ_DIR.image"
} 2>/dev/null

box_become() { # apptainer's container is a process of this job like another, and needs nobody to look after it
    # shellcheck disable=SC2016
    box_last='exec "$@"'
    box_write || box_fail "cannot write to the spool: no space left?"
    eval "set -- exec --cleanenv --no-home $box_words"
    if [ -n "$box_workdir" ]; then set -- "$@" --pwd "$box_workdir"; else set -- "$@" --pwd "$PWD"; fi
    trap - TERM INT HUP QUIT ALRM USR1 USR2
    exec env -i HOME="$HOME" PATH="$PATH" USER="$USER" LOGNAME="$LOGNAME" SSHQ_ATTEMPT="$SSHQ_ATTEMPT" \
        ${box_xdg:+XDG_RUNTIME_DIR="$box_xdg"} "$box_engine" "$@" "$box_image" /bin/sh /.sshq/init
}
