#!/bin/sh
# srun inside a job: the GPUs of a step, out of those the job has on this node.  See srun.sh.
# shellcheck disable=SC2034,SC2154 # variables shared with srun.sh
# shellcheck disable=SC2329 # called from srun.sh
#
# A step that asks for GPUs holds them, as it holds CPUs: a line of its file,
#   g -            it wants some, and has not chosen yet: steps with higher numbers wait for it
#   g 0,2          it has these, by the numbers of SLURM_JOB_GPUS
# One that does not ask sees all of the job's and holds none.

s_ask_gpus() { # TEXT OPTION: gpu:a100:2, a100:2, 2; sets s_gpus to the number
    s_value=$1
    case $s_field:$s_value in
    gres:none | gres:NONE | gres:) s_value=0 ;;
    gres:gpu) s_value=1 ;;
    gres:gpu:*) s_value=${s_value#gpu:} ;;
    gres:*) s_refuse 'Invalid generic resource (gres) specification' ;;
    esac
    case ${s_value##*:} in
    '' | *[!0-9A-Za-z_.-]*) s_refuse 'Invalid generic resource (gres) specification' ;;
    *[!0-9]*) s_value=1 ;; # a type alone
    *) s_value=${s_value##*:} ;;
    esac
    if [ "$s_field" = gpus_per_task ]; then s_task_gpus=$s_value; else s_gpus=$s_value; fi
}

s_plan_gpus() { # before the step claims its number
    s_gpu_base=${SLURM_STEP_GPUS-${SLURM_JOB_GPUS:-}} # a step within a step has what that has
    s_my_gpus=$s_gpu_base s_gpu_line=
    s_split_gpus "$s_my_gpus"
    [ -z "$s_task_gpus" ] || [ "$s_task_gpus" -eq 0 ] || s_gpus=$((s_task_gpus * s_count))
    [ -n "$s_gpus" ] || return 0
    [ "$s_gpus" -le "$s_gpu_count" ] || s_refuse 'Requested node configuration is not available'
    case $s_share$s_part in *overlap* | [0-9]*) s_pick_gpus , && return ;; esac # a part has what its srun has on its own node
    if [ "$s_gpus" -gt 0 ]; then s_gpu_line=-; else s_my_gpus=; fi
}

s_split_gpus() { # LIST: sets s_gpu_words and s_gpu_count
    s_gpu_words='' s_gpu_count=0 s_left=$1
    while [ -n "$s_left" ]; do
        s_gpu_words="$s_gpu_words ${s_left%%,*}" s_gpu_count=$((s_gpu_count + 1))
        case $s_left in *,*) s_left=${s_left#*,} ;; *) s_left='' ;; esac
    done
}

s_pick_gpus() { # ",TAKEN,...,": sets s_my_gpus to the first that are not; fails if there are too few
    s_my_gpus='' s_picked=0
    s_split_gpus "$s_gpu_base"
    for s_one in $s_gpu_words; do
        [ "$s_picked" -lt "$s_gpus" ] || break
        case $1 in *",$s_one,"*) continue ;; esac
        s_my_gpus=$s_my_gpus${s_my_gpus:+,}$s_one s_picked=$((s_picked + 1))
    done
    [ "$s_picked" -eq "$s_gpus" ]
}

s_has_gpus() { # beside what live steps with lower numbers have
    [ "$s_gpu_line" = - ] || return 0
    s_taken=, s_other=0
    while [ "$s_other" -lt "$s_step" ]; do
        s_pid='' s_begun='' s_state='' s_theirs=
        while read -r s_key s_value s_more; do
            case $s_key in
            1)
                s_pid=$s_value s_begun=${s_more%% *}
                s_state=${s_more#* }
                s_state=${s_state#* }
                ;;
            g) s_theirs=$s_value ;;
            esac
        done 2>/dev/null <"$s_steps/$s_other"
        case ${s_state%% *}:$s_theirs in
        wait:- | start:- | run:-) if s_lives "$s_pid" "$s_begun"; then return 1; fi ;;
        wait:?* | start:?* | run:?*)
            if [ "$s_other" != "${SLURM_STEP_ID:-}" ] && s_lives "$s_pid" "$s_begun"; then s_taken=$s_taken$s_theirs,; fi
            ;;
        esac
        s_other=$((s_other + 1))
    done
    s_pick_gpus "$s_taken" || return 1
    s_gpu_line=$s_my_gpus
}

s_select() { # LIST: the entries of a list at the places that our GPUs have among the job's, in s_value
    s_value='' s_place=0
    s_split_gpus "$1"
    for s_word in $s_gpu_words; do
        s_place=$((s_place + 1)) s_at=0 s_rest=$s_gpu_base,
        while [ -n "$s_rest" ]; do
            s_at=$((s_at + 1)) s_one=${s_rest%%,*} s_rest=${s_rest#*,}
            if [ "$s_at" -eq "$s_place" ]; then
                case ,$s_my_gpus, in *",$s_one,"*) s_value=$s_value${s_value:+,}$s_word ;; esac
                break
            fi
        done
    done
    : "${s_value:=-1}"
}

s_describe_gpus() { # the variables of s_my_gpus; where ROCr hides the others, HIP counts anew
    [ -n "$s_gpu_base" ] || return 0
    export SLURM_STEP_GPUS="$s_my_gpus"
    for s_name in CUDA_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ROCR_VISIBLE_DEVICES ZE_AFFINITY_MASK HIP_VISIBLE_DEVICES; do
        eval "s_list=\${$s_name:-}"
        [ -n "$s_list" ] || continue
        s_select "$s_list"
        case $s_name:${HIP_VISIBLE_DEVICES:-} in
        ROCR_VISIBLE_DEVICES:* | *:) ;;
        *) [ "$s_value" = -1 ] || s_count_anew "$s_value" ;;
        esac
        export "$s_name=$s_value"
    done
    s_split_gpus "$s_my_gpus"
    export SLURM_GPUS_ON_NODE="$s_gpu_count"
}

s_count_anew() { # LIST: sets s_value to 0,1,... of its length
    s_split_gpus "$1"
    s_value='' s_at=0
    while [ "$s_at" -lt "$s_gpu_count" ]; do s_value=$s_value${s_value:+,}$s_at s_at=$((s_at + 1)); done
}

s_bind_task() { # RANK: with --gpus-per-task each task has GPUs of its own
    if [ -z "$s_task_gpus" ] || [ "$s_task_gpus" -eq 0 ]; then return 0; fi
    s_split_gpus "$s_my_gpus"
    s_my_gpus='' s_at=0
    for s_one in $s_gpu_words; do
        if [ "$s_at" -ge $(($1 * s_task_gpus)) ] && [ "$s_at" -lt $((($1 + 1) * s_task_gpus)) ]; then s_my_gpus=$s_my_gpus${s_my_gpus:+,}$s_one; fi
        s_at=$((s_at + 1))
    done
    s_gpu_base=$SLURM_STEP_GPUS
    s_describe_gpus
}
