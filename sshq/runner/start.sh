#!/bin/sh
# The start of a runner: where the spool is, whose it is, taking the bell from an older runner; and the spawner.
# See runner.sh.
# shellcheck disable=SC2034,SC2153 # variables shared with the other parts of the program

# ---------------------------------------------------------------- the spawner

# Its environment is clean, so that nothing of the login reaches a job; what it must know came as SSHQ_*.
become_spawner() {
    # shellcheck disable=SC2153
    SPOOL=$SSHQ_SPOOL BOOT=$SSHQ_BOOT WALL0=$SSHQ_WALL0 NICE=$SSHQ_NICE SPOOL_ID=$SSHQ_SPOOL_ID
    FORKED=$SSHQ_FORKED SETSID=$SSHQ_SETSID SETSID_BIN=$SSHQ_SETSID_BIN SIGNALS=$SSHQ_SIGNALS SIGNALS_BIN=$SSHQ_SIGNALS_BIN
    unset SSHQ_FORKED SSHQ_SPOOL_ID SSHQ_SPOOL SSHQ_BOOT SSHQ_WALL0 SSHQ_NICE SSHQ_SETSID SSHQ_SETSID_BIN SSHQ_SIGNALS SSHQ_SIGNALS_BIN
    trap : HUP PIPE XFSZ
    forget_job
    find_oom_counter
    compare_clocks
}

# compare_clocks: sets CLOCKED to 1 if the start of a process is told by the clock of /proc/uptime, for name_self: so it is with
# this one, if it started after the runner's last look at that and before ours.  Not so where a container shows an uptime of its own.
compare_clocks() {
    CLOCKED=0
    now
    look self || return 0
    case $FORKED:$UPTIME in [1-9]*.[0-9][0-9]:[1-9]*.[0-9][0-9]) ;; *) return 0 ;; esac
    if [ "$START" -ge "${FORKED%.*}${FORKED#*.}" ] && [ "$START" -le "${UPTIME%.*}${UPTIME#*.}" ]; then CLOCKED=1; fi
}

find_oom_counter() { # where the kernel counts what it killed for want of memory in our control group
    OOM_FILE=''
    while IFS=: read -r NUMBER CONTROLLERS PLACE; do
        case $NUMBER:,$CONTROLLERS, in
        0:,,) OTHER=/sys/fs/cgroup${PLACE%/}/memory.events ;;
        *,memory,*)
            OTHER=/sys/fs/cgroup/memory
            [ ! -d "$OTHER${PLACE%/}" ] || OTHER=$OTHER${PLACE%/} # else a container sees its own group there, as the top
            OTHER=$OTHER/memory.oom_control
            ;;
        *) continue ;;
        esac
        [ ! -r "$OTHER" ] || OOM_FILE=$OTHER
    done </proc/self/cgroup
} 2>/dev/null

start_spawner() {
    rm -f "s.$$"
    mkfifo "s.$$" || return 1
    # shellcheck disable=SC2094
    exec 7<>"s.$$" 6<"s.$$" # both ends open before anybody is told; the runner is the only writer: when it goes, EOF
    rm -f "s.$$"
    case $SETSID in
    setsid) set -- "$SETSID_BIN" ;;
    perl) set -- "$SETSID_BIN" -e "$PERL_SETSID" ;;
    python3) set -- "$SETSID_BIN" -I -S -c "$PYTHON_SETSID" ;;
    esac
    NICELY=''
    [ "$NICE" -eq 0 ] || ! command -v nice >/dev/null || NICELY="nice -n $NICE" # busybox may come without
    now
    # shellcheck disable=SC2086 # SCOPE, NICELY and SHELL_HERE are several words or none
    $SCOPE $NICELY "$@" env -i HOME="$HOME" USER="$USER_HERE" LOGNAME="$USER_HERE" SHELL="$LOGIN_SHELL" PATH="$PATH" \
        SSHQ_SPOOL="$SPOOL" SSHQ_SPOOL_ID="$SPOOL_ID" SSHQ_BOOT="$BOOT" SSHQ_WALL0="$WALL0" SSHQ_NICE="$NICE" SSHQ_SETSID="$SETSID" \
        SSHQ_FORKED="$UPTIME" SSHQ_SETSID_BIN="$SETSID_BIN" SSHQ_SIGNALS="$SIGNALS" SSHQ_SIGNALS_BIN="$SIGNALS_BIN" \
        $SHELL_HERE <&6 >/dev/null 2>&1 6<&- 7>&- 8>&- &
    SPAWNER=$!
    exec 6<&-
    [ "$NICE" -eq 0 ] || [ -n "$NICELY" ] || renice -n "$NICE" -p "$SPAWNER" >/dev/null 2>&1
    look "$SPAWNER" && SPAWNER_START=$START
    printf '%s\nbecome_spawner\n' "$PROGRAM" >&7
}

# Each listing looks who it really is; in between a number taken over by somebody else costs one fenced launch.
# A zombie has no `exe`; nor has whom one may not look into.
ensure_spawner() { { [ -n "$SPAWNER" ] && { [ -e "/proc/$SPAWNER/exe" ] || has_memory "$SPAWNER"; }; } || start_spawner; }

# ---------------------------------------------------------------- the start of a runner

boot_failed() { # WHY TEXT: on the bare channel, before there is a FIFO
    printf 'SSHQ %s unusable %s %s\n' "$NONCE" "$1" "$2"
    exit 0
}

# fs_type PATH: the type of the file system a physical path lies on, in FS, from the mount table, without asking the
# file system itself (it may hang).  Later entries lie over earlier ones.
# By way of `cat`: `read` takes a byte at a time, and bash's reads ahead and seeks back, which loses lines of this file.
fs_type() {
    FS=unknown LONGEST=0
    MOUNTS=$(cat /proc/self/mounts)
    set -f
    IFS=${TAB_NEWLINE#?}
    for LINE in $MOUNTS; do
        IFS=' '
        # shellcheck disable=SC2086
        mounted_over "$1" $LINE
    done
    set +f
    IFS=" $TAB_NEWLINE"
}

mounted_over() { # PATH DEVICE MOUNTED TYPE...: a line of the mount table
    MOUNTED=$3
    case $MOUNTED in *\\*) MOUNTED=$(printf '%b' "$MOUNTED") ;; esac
    MOUNTED=${MOUNTED%/} # not inside the pattern: bash 5.2 matches "${X%/}"/* wrongly when it is empty
    case $1/ in "$MOUNTED"/*) if [ ${#MOUNTED} -ge "$LONGEST" ]; then LONGEST=${#MOUNTED} FS=$4; fi ;; esac
}

is_remote() { # FS: seen by several hosts, or served by another: then O_EXCL, FIFOs and pids prove nothing
    case $1 in
    fuse.fuse-overlayfs | fuse.ext* | fuse.bindfs) return 1 ;;
    nfs* | cifs | smb* | ncp* | afs | openafs | ceph | lustre | gpfs | beegfs* | gluster* | pvfs2 | orangefs | ocfs2 | gfs* | \
        panfs* | coda | 9p | virtiofs | autofs | fuse.*) return 0 ;;
    esac
    return 1
}

# place_of PATH: sets FS for a path whose last parts need not exist yet.
place_of() {
    PLACE=$1
    while [ ! -d "$PLACE" ]; do
        case $PLACE in */*) PLACE=${PLACE%/*} ;; *) PLACE=/ ;; esac
        [ -n "$PLACE" ] || PLACE=/
    done
    PLACE=$(cd -P -- "$PLACE" && pwd -P) 2>/dev/null || return 1
    fs_type "$PLACE"
}

choose_base() { # GIVEN FORCE STORE_ID: sets BASE
    BASE=$1
    if [ -n "$BASE" ]; then
        # shellcheck disable=SC2088 # the tilde as the inventory wrote it
        case $BASE in /*) ;; '~/'*) BASE=$HOME/${BASE#??} ;; *) BASE=$HOME/$BASE ;; esac
        place_of "$BASE"
        if is_remote "$FS" && [ "$2" != 1 ]; then boot_failed spool-remote "$BASE is on $FS, which other hosts may share"; fi
        [ -e "$BASE" ] || [ -L "$BASE" ] || make_places "$3"
        return
    fi
    BASE=$HOME/.local/state/sshq
    if [ -d "${HOME:-/nonexistent}" ] && place_of "$BASE" && ! is_remote "$FS"; then
        [ -e "$BASE" ] || [ -L "$BASE" ] || make_places "$3"
        if [ -d "$BASE" ] && [ -w "$BASE" ]; then return; fi
    fi
    BASE=/var/tmp/sshq-$UID_HERE
    place_of "$BASE"
    if is_remote "$FS" && [ "$2" != 1 ]; then boot_failed spool-remote "home and /var/tmp are on file systems other hosts may share ($FS)"; fi
} 2>/dev/null

make_places() { mkdir -p "$BASE/spool/$1/a" "$BASE/spool/$1/bin"; } # on a node that has seen none of us: all at once

# enter DIR: make it if need be, go there, and check where we are: ours, not a link.  check_modes sees to the rest.
enter() {
    if [ -L "$1" ]; then boot_failed spool-symlink "$1 is a symbolic link"; fi
    # shellcheck disable=SC2174 # the parents get the umask's 700
    [ -d "$1" ] || mkdir -p -m 700 "$1" 2>/dev/null || [ -d "$1" ] || boot_failed spool-space "cannot make $1"
    cd -P -- "$1" 2>/dev/null || boot_failed spool-owner "cannot enter $1"
    if [ -L "$1" ] && [ "${1#/}" != "$1" ]; then boot_failed spool-symlink "$1 is a symbolic link"; fi
    # shellcheck disable=SC3067
    [ -O . ] || boot_failed spool-owner "$1 belongs to somebody else"
}

# check_modes BASE: in the spool, before anything is written: it, and what it lies in, is nobody else's to write.  One `ls` for
# all that only it can tell, as it is half of what a connection costs a node to start one; sets NAMESPACE and SH_HERE as well.
check_modes() {
    CHECKED=0 NAMESPACE='' SH_HERE=''
    LISTING=$(ls -ld . .. ../.. /proc/self/ns/pid /bin/sh)
    IFS=${TAB_NEWLINE#?}
    for LINE in $LISTING; do
        case $LINE in
        *' /proc/self/ns/pid -> '*) NAMESPACE=${LINE##*'['} ;;
        *' /bin/sh' | *' /bin/sh -> '*) SH_HERE=${LINE##* } ;;
        *' ../..') check_mode "$LINE" "$1" shared ;;
        *' ..') check_mode "$LINE" "$1/spool" private ;;
        *' .') check_mode "$LINE" "$SPOOL" private ;;
        esac
    done
    IFS=" $TAB_NEWLINE"
    [ "$CHECKED" = 3 ] || boot_failed spool-owner "cannot look at $SPOOL"
} 2>/dev/null

check_mode() { # LINE PLACE private|shared
    CHECKED=$((CHECKED + 1))
    case $1:$3 in
    drwx------*) ;;
    drwx--S---*) ;; # below a directory that hands down its group
    *:private | ?????w* | ????????w*) boot_failed spool-mode "$2 is open to others (${1%% *})" ;;
    esac
}

read_boot_tag() { # boot_id:pid namespace:start of pid 1, because containers share the first
    read -r BOOT </proc/sys/kernel/random/boot_id || BOOT=none
    if [ -z "${NAMESPACE:-}" ]; then
        NAMESPACE=$(ls -l /proc/self/ns/pid 2>/dev/null)
        NAMESPACE=${NAMESPACE##*'['}
    fi
    NAMESPACE=${NAMESPACE%']'*}
    is_number "$NAMESPACE" || NAMESPACE=0
    INIT=0
    look 1 && INIT=$START # fails where /proc hides strangers
    BOOT=$BOOT:$NAMESPACE:${INIT:-0}
}

find_tools() { # how to make a session, how to give a job clean signals
    SETSID=none SETSID_BIN='' SIGNALS=none SIGNALS_BIN='' SCOPE=''
    # Where both are what they are nearly everywhere, one look does for them; env without a program is its own.
    if SETSID_BIN=$(command -v setsid) && SIGNALS_BIN=$(command -v env) &&
        "$SETSID_BIN" "$SIGNALS_BIN" --default-signal=INT,QUIT,HUP,PIPE </dev/null >/dev/null 2>&1; then
        SETSID=setsid SIGNALS="env"
    else
        try_tools
    fi
    if [ "$1" = 1 ]; then
        SCOPE='systemd-run --user --scope --quiet --collect'
        [ "$UID_HERE" != 0 ] || SCOPE='systemd-run --scope --quiet --collect'
        : "${XDG_RUNTIME_DIR:=/run/user/$UID_HERE}"
        export XDG_RUNTIME_DIR
        # shellcheck disable=SC2086
        timeout 5 $SCOPE true </dev/null >/dev/null 2>&1 || SCOPE=''
    fi
}

try_tools() {
    SETSID_BIN='' SIGNALS_BIN=''
    for TOOL in setsid perl python3; do
        BIN=$(command -v "$TOOL") || continue
        case $TOOL in
        setsid) "$BIN" true </dev/null ;;
        perl) "$BIN" -e 'use POSIX ();' </dev/null ;;
        python3) "$BIN" -I -S -c '' </dev/null ;;
        esac >/dev/null 2>&1 && SETSID=$TOOL SETSID_BIN=$BIN && break
    done
    for TOOL in env perl python3; do
        BIN=$(command -v "$TOOL") || continue
        case $TOOL in
        env) "$BIN" --default-signal=INT,QUIT,HUP,PIPE true </dev/null ;;
        perl) "$BIN" -e 1 </dev/null ;;
        python3) "$BIN" -I -S -c '' </dev/null ;;
        esac >/dev/null 2>&1 && SIGNALS=$TOOL SIGNALS_BIN=$BIN && break
    done
    [ "$SETSID" != none ] || boot_failed no-setsid 'none of setsid, perl, python3 works here'
}

open_spool() { # STORE_ID GIVEN_BASE FORCE
    choose_base "$2" "$3" "$1"
    enter "${BASE%/}"
    enter spool
    enter "$1"
    SPOOL=$(pwd -P)
    check_modes "${BASE%/}"
    case $SPOOL in *[$TAB_NEWLINE]*) boot_failed spool-owner 'its path holds a newline' ;; esac
    # An empty one is what a full disk or a power cut leaves of a new one.
    [ -s version ] || printf '%s\n' "$FORMAT" >|version || boot_failed spool-space "cannot write to $SPOOL"
    SPOOL_FORMAT=''
    read -r SPOOL_FORMAT <version
    [ "$SPOOL_FORMAT" = "$FORMAT" ] || boot_failed spool-version "$SPOOL has format $SPOOL_FORMAT, this sshq knows $FORMAT: use the release that wrote it"
    [ -d a ] || mkdir a bin || [ -d a ] || boot_failed spool-space "cannot write to $SPOOL"
    SPOOL_ID=''
    { read -r SPOOL_ID <spool_id; } 2>/dev/null
    if ! is_id "$SPOOL_ID"; then # none yet, or a damaged one
        IFS=- read -r ID1 ID2 ID3 ID4 ID5 </proc/sys/kernel/random/uuid
        SPOOL_ID=$ID1$ID2$ID3$ID4$ID5
        # A new one needs no rename: who finds it half written takes it for damaged.
        if ! { [ ! -e spool_id ] && printf '%s\n' "$SPOOL_ID" >spool_id && [ -s spool_id ]; } &&
            ! { printf '%s\n' "$SPOOL_ID" >|"spool_id.$$" && [ -s "spool_id.$$" ] && mv -f "spool_id.$$" spool_id; }; then
            boot_failed spool-space "cannot write to $SPOOL"
        fi
    fi
    place_of "$SPOOL"
} 2>/dev/null

# What jobs find first on their PATH.  Came as SRUN_MARK and SRUN_TEXT, UPCALL_MARK, UPCALL_TEXT and UPCALL_NAMES, in front of
# the call of boot.  A node that cannot hold them runs jobs all the same.
install_commands() {
    [ -n "${SRUN_TEXT:-}" ] || return 0
    find_interpreter
    MARK="# $SRUN_MARK $SETSID $SETSID_BIN $SIGNALS $SIGNALS_BIN $INTERPRETER"
    OTHER_MARK="# $UPCALL_MARK $INTERPRETER"
    if ! { has_mark bin/srun "$MARK" && has_mark bin/upcall "$OTHER_MARK"; } && mkdir -p "bin/new.$$"; then
        # All of them at once, as each process costs a node more than writing the little file once more; `upcall`, whose mark
        # stands for the others, is the last of them in the order of names.
        NEW="bin/new.$$"
        write_srun >|"$NEW/srun" && write_upcalls && chmod 700 "$NEW"/* && mv -f "$NEW"/* bin/
        rmdir "$NEW" || rm -rf "$NEW"
    fi
    unset SRUN_TEXT UPCALL_TEXT
} 2>/dev/null

has_mark() { # FILE MARK: its second line
    LINE=''
    { read -r _ && read -r LINE; } <"$1"
    [ "$LINE" = "$2" ]
}

write_upcalls() { # false if not all are whole: an empty one would do nothing, and succeed
    for OTHER in $UPCALL_NAMES upcall; do
        write_upcall >|"$NEW/$OTHER" && [ -s "$NEW/$OTHER" ] || return 1 # zsh's printf says nothing of a full disk
    done
}

write_upcall() { printf '#!%s\n%s\n%s' "$INTERPRETER" "$OTHER_MARK" "$UPCALL_TEXT"; }

find_interpreter() { # SHELL_HERE as a #! line has it: a path, and one argument at most
    INTERPRETER=/bin/sh
    case $SHELL_HERE in /bin/sh | *' '*' '*) return ;; esac
    OLD_IFS=$IFS IFS=:
    for DIRECTORY in $PATH; do # `command -v` may name an applet, without its place
        [ ! -x "$DIRECTORY/${SHELL_HERE%% *}" ] || INTERPRETER=$DIRECTORY/$SHELL_HERE
    done
    IFS=$OLD_IFS
}

write_srun() {
    printf '#!%s\n%s\n' "$INTERPRETER" "$MARK" &&
        printf "%s='%s'\n" s_shell "$INTERPRETER" s_setsid "$SETSID" s_setsid_bin "$SETSID_BIN" s_signals "$SIGNALS" s_signals_bin "$SIGNALS_BIN" \
            s_perl_setsid "$PERL_SETSID" s_perl_signals "$PERL_SIGNALS" s_python_setsid "$PYTHON_SETSID" \
            s_python_signals "$PYTHON_SIGNALS" && printf '%s' "$SRUN_TEXT"
}

# A runner takes the bell, then ends every other runner of this spool.  It says who it is before all else, so of two that
# start at once at least one sees the other; at worst they end each other, and the controller connects again.
take_over() {
    TOOK_OVER=0
    look self # the runner itself: no subshell here
    MY_START=$START
    if [ -e "b.$$" ] || [ -e "bell.$$" ]; then rm -f "b.$$" "bell.$$"; fi # of an earlier process of this number
    # Identities are names of empty files: whole at once, and they need no space.
    true >|"r.$$.$MY_START.$BOOT" || boot_failed spool-space "cannot write to $SPOOL"
    mkfifo "b.$$" || boot_failed spool-space "cannot make a FIFO in $SPOOL"
    # shellcheck disable=SC2094
    exec 8<>"b.$$" 9<"b.$$" # both ends open before the rename, or the reader would race with it
    cat <&9 8>&- 9<&- &
    READER=$!
    exec 9<&- >/dev/null
    look "$READER" && true >|"c.$READER.$START.$BOOT"
    # `ln` alone where there is none yet, as only a rename takes the place of another's
    { [ ! -e bell ] && ln "b.$$" bell; } || { ln "b.$$" "bell.$$" && mv -f "bell.$$" bell; }
    for OTHER in r.*; do
        if [ -e "$OTHER" ] && [ "$OTHER" != "r.$$.$MY_START.$BOOT" ]; then end_other "$OTHER"; fi
    done
    for OTHER in c.*; do
        if [ -e "$OTHER" ] && [ "$OTHER" != "c.$READER.$START.$BOOT" ]; then end_reader "$OTHER"; fi
    done
    # A rename of the old runner's that is still on its way must not undo a later raise of ours.
    if has_file floor.*.new; then rm -f floor.*.new; fi
    for OTHER in b.*; do
        OTHER=${OTHER#b.}
        # Who has said who it is and still lives will end us, if it has not yet: its FIFO is not ours to touch.
        if [ "$OTHER" != "$$" ] && ! has_file "r.$OTHER".*; then drain "$OTHER"; fi
    done
} 2>/dev/null

has_file() { [ -e "$1" ]; }

split_identity() { # X.PID.START.BOOT
    O_BOOT=${1#*.}
    O_PID=${O_BOOT%%.*}
    O_BOOT=${O_BOOT#*.}
    O_START=${O_BOOT%%.*}
    O_BOOT=${O_BOOT#*.}
}

end_other() { # a runner, by the name of its file
    split_identity "$1"
    TRIES=0
    while is_ours "$O_PID" "$O_START" "$O_BOOT"; do
        TOOK_OVER=1
        kill -s KILL "$O_PID"
        TRIES=$((TRIES + 1))
        [ "$TRIES" -lt 100 ] || nap
        [ "$TRIES" -lt 130 ] || {
            say "SSHQ $NONCE unusable busy runner $O_PID does not die"
            exit 0
        }
    done
    rm -f "$1"
}

# end_reader NAME: the `cat` of a runner that is gone may hang in a dead channel.  That of one that lives (started with us)
# is spared; its runner is not ended, so it is its child.
end_reader() {
    split_identity "$1"
    if is_ours "$O_PID" "$O_START" "$O_BOOT"; then
        has_file "r.$PARENT".* && return 0
        kill -s KILL "$O_PID"
    fi
    rm -f "$1"
}

# Supervisors may hang in a write to a bell nobody read: let them go.  What they said, a listing says.
drain() { # PID of a runner that is no more
    [ -p "b.$1" ] || return 0
    # shellcheck disable=SC2094
    exec 9<>"b.$1" 6<"b.$1"
    cat <&6 >/dev/null 8>&- 9<&- 6<&- &
    exec 9<&- 6<&-
    rm -f "b.$1" "bell.$1" "s.$1"
}

# The generation is the name of an empty file as well: gen.N.
read_gen() {
    GEN=0
    for OTHER in gen.*; do
        OTHER=${OTHER#gen.}
        if is_number "$OTHER" && [ "$OTHER" -gt "$GEN" ]; then GEN=$OTHER; fi
    done
}

hello() { # KEY VALUE
    HELLO=$((HELLO + 1))
    say "h $1 $2"
}

# boot NONCE STORE_ID BASE FORCE NICE SCOPE SHELL END-NONCE
boot() {
    [ $# -eq 8 ] && [ "$8" = "END-$1" ] || exit 0
    NONCE=$1 NICE=$5 SHELL_HERE=$7
    LC_ALL=C PATH=${PATH:-/usr/bin:/bin}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
    export LC_ALL PATH
    unset CDPATH ENV BASH_ENV
    trap : HUP PIPE XFSZ
    [ -r /proc/uptime ] && [ -r /proc/self/stat ] || boot_failed no-proc 'this is not Linux, or /proc is not there'
    LOGIN_SHELL=${SHELL:-/bin/sh} USER_HERE=$(id -un 2>/dev/null) || USER_HERE=${USER:-}
    while read -r KEY _ UID_HERE _; do [ "$KEY" != Uid: ] || break; done </proc/self/status
    is_number "$UID_HERE" || UID_HERE=$(id -u) || boot_failed no-id 'id does not work'
    : "${USER_HERE:=$UID_HERE}" "${HOME:=/}"
    find_tools "$6"
    open_spool "$2" "$3" "$4"
    read_boot_tag
    install_commands
    CLOCK=$(date +%s)
    now
    WALL0=$((CLOCK - ${UPTIME%.*}))
    take_over
    exec 2>/dev/null
    clear_leftovers
    SPAWNER='' SPAWNER_START='' REFUSED=' '
    read_gen
    read_floor
    say "SSHQ $NONCE hello $PROTOCOL"
    HELLO=0
    hello version "$SPOOL_FORMAT"
    hello boot "$BOOT"
    hello uid "$UID_HERE"
    hello user "$USER_HERE"
    hello home "$HOME"
    hello shell "$LOGIN_SHELL"
    hello spool "$SPOOL"
    hello spool_id "$SPOOL_ID"
    hello fs "$FS"
    hello gen "$GEN"
    hello floor "$FLOOR"
    HELLO_OPEN=$FLOOR_OPEN
    for SEQ in $HELLO_OPEN; do hello open "$SEQ"; done
    hello pid "$$"
    hello start "$MY_START"
    hello uptime "$UPTIME"
    hello clock "$CLOCK"
    hello signals "$SIGNALS"
    hello setsid "$SETSID"
    hello took_over "$TOOK_OVER"
    hello scope "${SCOPE:+1}"
    say "h . $HELLO"
}

clear_leftovers() { # files of launches never claimed (their parts came, they did not) or collected while still being written
    set --
    for OTHER in a/*.req a/*.env a/*.script a/*.sup a/*.run a/*.out a/*.err; do
        if [ -e "$OTHER" ] && [ ! -e "${OTHER%.*}.exit" ] && [ ! -f "${OTHER%.*}.go" ]; then set -- "$@" "$OTHER"; fi
    done
    [ $# -eq 0 ] || rm -f "$@"
    for OTHER in a/*.d a/*.steps a/*.parts a/*.calls; do
        if [ -d "$OTHER" ] && [ ! -L "$OTHER" ] && [ ! -e "${OTHER%.*}.exit" ] && [ ! -f "${OTHER%.*}.go" ]; then rm -rf "$OTHER" 8>&- & fi
    done
}
