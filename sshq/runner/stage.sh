#!/bin/sh
# shellcheck disable=SC2012,SC2015 # names are digests; a mkdir that failed and a cd that failed are told alike
# A host's cache of chunks, and the building of trees from them.  Run on channels of their own, never in the runner.
#
# SPOOL/cache: o/DIGEST chunks, m/TREE which chunks a tree has, in order (its time is when it was last used), x/ what is being
# written, boot: since when all chunks were seen whole.  A chunk is looked at as it comes, and again after a reboot.

LC_ALL=C
export LC_ALL
umask 077

st_say() { printf '%s %s\n' "$ST_NONCE" "$*"; }

st_fail() { # WORD TEXT: the call is over
    st_say "no $1 $2"
    exit 1
}

st_enter() { # SPOOL NONCE
    ST_NONCE=$2
    cd -- "$1" 2>/dev/null || st_fail spool "the spool is gone"
    for ST_NEEDED in tar cat df du ls sort uniq xargs; do
        command -v "$ST_NEEDED" >/dev/null 2>&1 || st_fail tool "$ST_NEEDED is not there"
    done
    if command -v sha256sum >/dev/null 2>&1; then
        st_sum() { xargs sha256sum; }
    elif command -v shasum >/dev/null 2>&1; then
        st_sum() { xargs shasum -a 256; }
    elif command -v openssl >/dev/null 2>&1; then
        st_sum() { xargs openssl dgst -sha256 -r; }
    else
        st_fail tool "neither sha256sum nor shasum nor openssl is there"
    fi
    ST_TEXT=$(mkdir -p cache/o cache/m cache/x 2>&1) || st_fail disk "$(st_first "$ST_TEXT")"
}

st_first() { # TEXT: its first line
    case $1 in *'Wrote only '* | *'No space left'* | *'quota exceeded'*) set -- "no space left on its disk" ;; esac
    printf '%s\n' "${1:-no reason given}" | { read -r ST_LINE && printf '%.300s' "$ST_LINE"; }
}

st_bad() { # names on stdin, of the working directory: says those whose content is another
    st_sum 2>/dev/null | while read -r ST_DIGEST ST_NAME; do
        ST_NAME=${ST_NAME#\*}
        case $ST_NAME in - | stdin) continue ;; esac # there were none
        [ "$ST_DIGEST" = "$ST_NAME" ] || printf '%s\n' "$ST_NAME"
    done
}

st_look_again() { # a power cut may have taken what was written just before
    read -r ST_BOOT </proc/sys/kernel/random/boot_id || ST_BOOT=unknown
    ST_SEEN=''
    [ ! -e cache/boot ] || read -r ST_SEEN <cache/boot
    [ "$ST_SEEN" != "$ST_BOOT" ] || return 0
    (cd cache/o && ls | st_bad | xargs rm -f)
    printf '%s\n' "$ST_BOOT" >cache/boot
}

# st_open SPOOL NONCE TREE <CHUNKS: which of them are missing here, how much room there is, how much the cache has (KiB).
st_open() {
    st_enter "$1" "$2"
    st_look_again
    find cache/x -mindepth 1 -maxdepth 1 -mmin +60 -exec rm -rf {} + 2>/dev/null
    ST_TEXT=$({ cat >"cache/x/$2.m" && mv -f "cache/x/$2.m" "cache/m/$3"; } 2>&1) || {
        rm -f "cache/x/$2.m"
        st_fail disk "$(st_first "$ST_TEXT")"
    }
    while read -r ST_CHUNK; do
        [ -e "cache/o/$ST_CHUNK" ] || printf '%s - %s\n' "$ST_NONCE" "$ST_CHUNK"
    done <"cache/m/$3"
    st_room
    st_say end
}

st_room() {
    { df -Pk . | { read -r _ && read -r _ _ _ ST_FREE _ && st_say "free $ST_FREE"; } && du -sk cache/o | { read -r ST_USED _ && st_say "used $ST_USED"; }; } ||
        st_fail disk "the room in the spool cannot be told"
}

# st_evict SPOOL NONCE USED MAX TREE...: trees go, longest unused first, until the cache has at most MAX KiB; those named stay.
st_evict() {
    st_enter "$1" "$2"
    ST_USED=$3 ST_MAX=$4
    shift 4
    st_drop_chunks
    ls -tr cache/m >"cache/x/$ST_NONCE.l"
    while [ "$ST_USED" -gt "$ST_MAX" ] && read -r ST_TREE; do
        for ST_KEPT in "$@"; do
            [ "$ST_KEPT" != "$ST_TREE" ] || continue 2
        done
        rm -f "cache/m/$ST_TREE"
        st_drop_chunks
    done <"cache/x/$ST_NONCE.l"
    rm -f "cache/x/$ST_NONCE".?
    st_room
    st_say end
}

st_drop_chunks() { # those that no tree has any more; sets ST_USED
    for ST_NAME in cache/m/*; do
        [ ! -e "$ST_NAME" ] || cat "$ST_NAME" "$ST_NAME" # twice: what is there once is in no tree
    done | { cat && ls cache/o; } | sort | uniq -u | (cd cache/o && xargs rm -f)
    ST_USED=$(du -sk cache/o | { read -r ST_SIZE _ && printf '%s' "$ST_SIZE"; })
}

# st_put SPOOL NONCE <TAR: chunks as members named by their digests; whole ones are kept, also of a stream that was cut off.
# What programs say is not written down: the disk may be full.
st_put() {
    st_enter "$1" "$2"
    ST_PLACE=cache/x/$2.d
    mkdir "$ST_PLACE" && cd "$ST_PLACE" || st_fail disk "the cache cannot be written"
    trap '' HUP TERM PIPE
    ST_STATUS=0 ST_COUNT=0
    ST_TEXT=$(tar -xof - 2>&1) || ST_STATUS=$?
    for ST_CHUNK in $(ls | st_bad); do
        rm -f "$ST_CHUNK"
        ST_COUNT=$((ST_COUNT + 1))
    done
    set -- *
    if [ -e "$1" ]; then
        chmod 400 "$@"
        ST_MOVED=$(mv -f "$@" ../../o/ 2>&1) || ST_STATUS=1 ST_TEXT=${ST_TEXT:-$ST_MOVED}
    fi
    cd ../../.. && rm -rf "$ST_PLACE"
    [ "$ST_STATUS" -eq 0 ] || st_fail disk "$(st_first "$ST_TEXT")"
    [ "$ST_COUNT" -eq 0 ] || st_fail damaged "$ST_COUNT chunks came damaged"
    st_say end
}

# st_grow SPOOL NONCE TREE ID: the tree, copied, as the directory of a launch.
st_grow() {
    st_enter "$1" "$2"
    ST_TREE=$3 ST_HOME=a/$4.d
    touch -c "cache/m/$ST_TREE"
    rm -rf "$ST_HOME"
    mkdir -m 700 "$ST_HOME" || st_fail disk "$ST_HOME cannot be made"
    # A program's warnings are none of ours (a clock that goes wrong): its status counts.
    ST_TEXT=$({
        { cd cache/o && xargs cat <"../m/$ST_TREE" || echo "failed $ST_NONCE" >&2; } |
            { cd "$ST_HOME" && umask 0 && EXTRACT_UNSAFE_SYMLINKS=1 tar -xpof - || echo "failed $ST_NONCE" >&2; }
    } 2>&1)
    case $ST_TEXT in
    *"failed $ST_NONCE"*)
        chmod -R u+rwX "$ST_HOME" 2>/dev/null
        rm -rf "$ST_HOME"
        st_fail disk "$(st_first "$ST_TEXT")"
        ;;
    esac
    st_say end
}

# st_undo SPOOL NONCE ID: the directory of a launch that is not to be.
st_undo() {
    st_enter "$1" "$2"
    [ ! -e "a/$3.exit" ] || st_fail claimed "the launch was claimed"
    chmod -R u+rwX "a/$3.d" 2>/dev/null
    rm -rf "a/$3.d"
    st_say end
}

[ "$#" -eq 0 ] || "$@"
