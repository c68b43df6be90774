#!/bin/sh
# GPUs: what their makers' tools say, word for word, and whose processes those are.  See runner.sh; the controller reads it
# in sshq/inventory/gpufacts.py.
# shellcheck disable=SC2034,SC2153,SC2154 # variables shared with the other parts of the program

# ---------------------------------------------------------------- GPUs

# call_gpus TAG END: in a child, because the tools are slow, and hang where a driver does
call_gpus() {
    [ $# -eq 2 ] && [ "$2" = "END-$1" ] || return 0
    look_at_gpus "$1" </dev/null &
}

look_at_gpus() {
    TAG=$1 FACTS=0 CUT='' DEVICES=''
    for DEVICE in /dev/nvidia[0-9]*; do
        [ ! -e "$DEVICE" ] || DEVICES="$DEVICES${DEVICES:+ }${DEVICE#/dev/nvidia}"
    done
    fact devices "$DEVICES"
    now
    LATEST=$((${UPTIME%.*} + 10))
    if find_gpu_tool nvidia-smi /usr/lib/wsl/lib /run/current-system/sw/bin; then
        start_tool apps --query-compute-apps=gpu_uuid,pid,used_memory --format=csv,noheader,nounits
        start_tool gpus --query-gpu=index,uuid,pci.bus_id,name,memory.total,memory.used,mig.mode.current --format=csv,noheader,nounits
        end_tool gpus
        if [ "$STATUS" != 0 ] && [ "$STATUS" != hangs ]; then # drivers before 450 know no MIG
            start_tool plain --query-gpu=index,uuid,pci.bus_id,name,memory.total,memory.used --format=csv,noheader,nounits
            end_tool plain
        fi
        end_tool apps
        [ -z "$CUT" ] || { start_tool list -L && end_tool list; }
    elif find_gpu_tool rocm-smi /opt/rocm/bin; then
        start_tool pids --showpidgpus
        start_tool gpus --showid --showuniqueid --showbus --showproductname --showmeminfo vram --csv
        end_tool gpus
        end_tool pids
    elif find_gpu_tool amd-smi /opt/rocm/bin; then
        start_tool gpus list --csv
        start_tool names static --asic --csv
        start_tool memory metric --mem-usage --csv
        start_tool pids process --csv
        for KEY in gpus names memory pids; do end_tool "$KEY"; done
    fi
    say "F $TAG . $FACTS"
} 2>/dev/null

find_gpu_tool() { # NAME DIRECTORY...: sets TOOL
    TOOL=$(command -v "$1") || TOOL=''
    NAME=$1
    shift
    for PLACE in "$@"; do
        if [ -z "$TOOL" ] && [ -x "$PLACE/$NAME" ]; then TOOL=$PLACE/$NAME; fi
    done
    [ -n "$TOOL" ] && fact tool "$NAME"
}

start_tool() { # KEY ARGUMENTS...: several run side by side
    KEY=$1
    shift
    # Nothing of ours stays open in it: it may hang for ever, and not even die of KILL.
    (exec "$TOOL" "$@") >|"gpu.$TAG.$KEY" 2>&1 7>&- 8>&- &
    eval "PID_$KEY=\$!"
}

end_tool() { # KEY: its lines, then how it ended
    KEY=$1
    eval "ASKED=\$PID_$KEY"
    while has_memory "$ASKED"; do
        now
        if [ "${UPTIME%.*}" -ge "$LATEST" ]; then
            kill -s KILL "$ASKED"
            rm -f "gpu.$TAG.$KEY"
            STATUS=hangs
            fact "$KEY.status" hangs
            return
        fi
        nap
    done
    wait "$ASKED"
    STATUS=$?
    COUNT=0
    while read -r LINE || [ -n "$LINE" ]; do
        COUNT=$((COUNT + 1))
        [ "$COUNT" -le 80 ] || break
        case $LINE in *', Enabled'*) CUT=1 ;; esac
        fact "$KEY" "$LINE"
    done <"gpu.$TAG.$KEY"
    rm -f "gpu.$TAG.$KEY"
    fact "$KEY.status" "$STATUS"
}

# call_who TAG PID... END: whose processes these are, and which of them are of our jobs
call_who() {
    for LAST in "$@"; do :; done
    [ $# -ge 2 ] && [ "$LAST" = "END-$1" ] || return 0
    tell_who "$@" </dev/null &
}

tell_who() {
    TAG=$1 FACTS=0
    shift
    for PROCESS in "$@"; do
        is_number "$PROCESS" || continue
        LINE=$(ls -ld "/proc/$PROCESS") || continue
        NAME='' OURS=-
        { read -r NAME <"/proc/$PROCESS/comm"; } || NAME=''
        # Only our own account's environments can be read, and only our jobs have a place in this spool.
        for WORD in $(tr '\000\n' '\n ' <"/proc/$PROCESS/environ" | grep '^SSHQ_DIR='); do
            case $WORD in "SSHQ_DIR=$SPOOL/a/"*) OURS=${WORD##*/} ;; esac
        done
        # shellcheck disable=SC2086 # mode, links, owner, ...
        set -- $LINE
        fact "$PROCESS" "${3:-?} $OURS $NAME"
    done
    say "F $TAG . $FACTS"
} 2>/dev/null
