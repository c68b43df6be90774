#!/bin/sh
# Interpreters: which of some Pythons are here, and what they say of themselves.  See runner.sh; read in sshq/runner/pythons.py.
# shellcheck disable=SC2034,SC2153,SC2154 # variables shared with the other parts of the program

# call_pythons TAG COUNT NAME... CANDIDATE... END: in a child, because an interpreter may be slow, or hang.  COUNT names of
# distributions, then paths or names of interpreters.
call_pythons() {
    for LAST in "$@"; do :; done
    [ $# -ge 3 ] && [ "$LAST" = "END-$1" ] && is_number "$2" && [ $# -gt "$(($2 + 2))" ] || return 0
    look_for_pythons "$@" </dev/null &
}

look_for_pythons() {
    TAG=$1 FACTS=0 CUT='' LEFT=$2 PACKAGES='' NUMBER=0
    shift 2
    while [ "$LEFT" -gt 0 ]; do
        PACKAGES="$PACKAGES $1" LEFT=$((LEFT - 1)) # letters, digits, dots and dashes: the controller saw to that
        shift
    done
    now
    LATEST=$((${UPTIME%.*} + 10))
    while [ $# -gt 1 ]; do
        case $1 in
        /*) TOOL=$1 ;; # some shells would quote it
        *) TOOL=$(command -v "$1") || TOOL='' ;;
        esac
        [ -x "$TOOL" ] && [ ! -d "$TOOL" ] || TOOL=''
        case $TOOL in
        /*)
            NUMBER=$((NUMBER + 1))
            fact "p$NUMBER.path" "$TOOL"
            # shellcheck disable=SC2086 # names without blanks
            if [ -n "$PACKAGES" ]; then
                start_tool "p$NUMBER" -c "$PYTHON_ASKS" $PACKAGES
            else
                start_tool "p$NUMBER" -E -S -c "$PYTHON_ASKS"
            fi
            ;;
        esac
        shift
    done
    LEFT=0
    while [ "$LEFT" -lt "$NUMBER" ]; do
        LEFT=$((LEFT + 1))
        end_tool "p$LEFT"
    done
    say "F $TAG . $FACTS"
} 2>/dev/null

# What any Python from 2 on can read.
PYTHON_ASKS='import sys
sys.path[:1] = []
made = getattr(sys, "implementation", None)
print("sshq python %s %d.%d.%d" % ((made.name if made else "cpython",) + tuple(sys.version_info[:3])))
for name in sys.argv[1:]:
    try:
        from importlib.metadata import version
        print("sshq package %s %s" % (name, version(name)))
    except Exception:
        print("sshq package %s" % name)
'
