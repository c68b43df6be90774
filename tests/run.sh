#!/usr/bin/env bash
# All checks of sshq: what they need is installed first (as root on Debian or Ubuntu; else it is named), then ruff,
# mypy --strict, import contracts, shellcheck, the README's first command on the installed package, then the tests.
#
#   bash tests/run.sh                     everything
#   bash tests/run.sh quick               a few minutes: what needs neither real hosts (but for one), nor other shells, nor long
#   bash tests/run.sh [quick] -k TEXT …   further words go to pytest
#
#   SSHQ_VENV=DIR             use this virtual environment as it is (nothing is installed into it)
#   SSHQ_REQUIRE_TIERS=…      a skipped test is a failure (set when CI=true)
#   SSHQ_WORKERS=N            tests side by side (default: one more than there are CPUs, for most of them wait; 0: one by one)
#   SSHQ_KEEP_LOGS=DIR        where failed tests leave what their instances wrote
set -u
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

tier=full
if [ "${1:-}" = quick ]; then
    tier=quick
    shift
fi
failed=()
cleanup=()

clean_up() {
    local path
    for path in ${cleanup[@]+"${cleanup[@]}"}; do rm -rf "$path"; done
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '%s\n' "$*"; }

stage() { # stage NAME COMMAND…: run it, show its time, remember a failure
    local name=$1 start=$SECONDS status=0
    shift
    say "== $name"
    "$@" || status=$?
    say "== $name: $([ "$status" = 0 ] && echo ok || echo "FAILED ($status)") in $((SECONDS - start)) s"
    [ "$status" = 0 ] || failed+=("$name")
    return "$status"
}

# -- the machine: nothing of its user's settings may reach a test ------------------------------------------------------
for name in ${!SSHQ_@} ${!SBATCH_@} ${!SLURM_@} ${!SQUEUE_@} ${!SINFO_@} ${!SACCT_@} ${!SCANCEL_@}; do
    case $name in
        SSHQ_VENV | SSHQ_REQUIRE_TIERS | SSHQ_KEEP_LOGS | SSHQ_WORKERS) ;;
        *) unset "$name" ;;
    esac
done
unset SSH_AUTH_SOCK SSH_ASKPASS PYTHONPATH PYTHONHOME
workers=${SSHQ_WORKERS:-$(($(nproc) + 1))}
unset SSHQ_WORKERS
export SSHQ_KEEP_LOGS=${SSHQ_KEEP_LOGS:-${TMPDIR:-/tmp}/sshq-test-logs.$$}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
if [ "${CI:-}" = true ]; then
    export SSHQ_REQUIRE_TIERS=${SSHQ_REQUIRE_TIERS:-netns,shells,docker}
fi
if [ ! -d "${HOME:-}" ] || [ ! -w "${HOME:-}" ]; then
    HOME=$(mktemp -d) || exit 1
    export HOME
    cleanup+=("$HOME")
fi

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

missing_packages() { # what the tests use and this machine lacks, as Debian names
    local pair
    for pair in sshd:openssh-server ssh:openssh-client ip:iproute2 nft:nftables dropbear:dropbear-bin \
        busybox:busybox-static tcsh:tcsh fish:fish zsh:zsh ksh:ksh mksh:mksh dash:dash ps:procps unshare:util-linux; do
        command -v "${pair%%:*}" >/dev/null || printf '%s\n' "${pair#*:}"
    done
    # Hosts in containers need the machine's root.  An engine that is here serves; the tests start one of their own beside it.
    # Jobs in containers: an engine on hosts of the bed, as the machine's root.
    if [ "$(id -u)" = 0 ]; then
        for pair in podman:podman runc:runc conmon:conmon newuidmap:uidmap; do
            command -v "${pair%%:*}" >/dev/null || printf '%s\n' "${pair#*:}"
        done
    fi
    [ "$(id -u)" != 0 ] || command -v dockerd >/dev/null || printf '%s\n' docker.io
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || printf '%s\n' libfaketime
}

install_packages() {
    local policy=/usr/sbin/policy-rc.d package
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends)
    if [ ! -e "$policy" ]; then # no daemon shall start here because a test needs its program
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        cleanup+=("$policy")
    fi
    apt-get -qq -o DPkg::Lock::Timeout=300 update || say "apt-get update failed; trying with the lists at hand"
    "${install[@]}" "$@" >/dev/null && return
    for package in "$@"; do # one unknown name must not cost the others
        "${install[@]}" "$package" >/dev/null || say "cannot install $package; tests that need it will be skipped"
    done
}

provide_packages() {
    local packages
    mapfile -t packages < <(missing_packages)
    if [ ${#packages[@]} = 0 ]; then
        say "nothing missing"
    elif can_apt; then
        say "installing ${packages[*]} (no daemon is started)"
        install_packages "${packages[@]}"
    else
        say "This machine lacks what some tests need; they will be skipped.  To have them run:"
        say "    sudo apt-get install --no-install-recommends ${packages[*]}"
    fi
}

enter_namespace() { # a plain user with subordinate ids is root enough in a user namespace to build hosts
    local inside=(unshare --map-root-user --map-auto -nmpf --mount-proc)
    [ "$(id -u)" != 0 ] || return
    if "${inside[@]}" true 2>/dev/null; then
        PYTEST_DEBUG_TEMPROOT=$(mktemp -d) || return
        cleanup+=("$PYTEST_DEBUG_TEMPROOT")
        export PYTEST_DEBUG_TEMPROOT
        # shellcheck disable=SC2016  # no exec: the shell stays as the pid 1 that reaps orphans
        wrapper=("${inside[@]}" sh -c 'mount -t tmpfs run /run && ip link set lo up && "$@"; exit $?' sh)
    else
        say "Tests on hosts in network namespaces will be skipped: they need root, or subordinate ids (apt-get install uidmap)."
    fi
}

# -- Python ------------------------------------------------------------------------------------------------------------
is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() { # the first interpreter that starts and is 3.11 or newer
    local name
    for name in ${SSHQ_PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if command -v "$name" >/dev/null && is_recent "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

make_venv() {
    local python
    python=$(find_python) || {
        say "Python 3.11 or newer is needed: apt-get install python3 python3-venv"
        return 1
    }
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        if can_apt; then
            install_packages python3-venv
        else
            say "Python's venv module is missing: sudo apt-get install python3-venv"
            return 1
        fi
    fi
    is_recent "$venv/bin/python" || "$python" -m venv --clear "$venv" || return
    "$venv/bin/python" -m pip install -q --retries 5 '.[test]'
}

# -- checks ------------------------------------------------------------------------------------------------------------
check_shell_files() {
    local files
    mapfile -t files < <(find . -path './.venv*' -prune -o -path ./.git -prune -o -name '*.sh' -print)
    "$venv/bin/shellcheck" "${files[@]}" .ci/run
}

check_installed() { # the package as a user gets it: complete, and its main job runs with no inventory
    local python=$venv/bin/python sshq=$venv/bin/sshq dir status
    "$python" -I - <<'CODE' || return
import pathlib, sys, sysconfig
tree, installed = pathlib.Path("sshq"), pathlib.Path(sysconfig.get_path("purelib"), "sshq")
files = {p.relative_to(tree) for p in tree.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
missing = sorted(str(p) for p in files if not (installed / p).is_file())
sys.exit(f"not in the installed package: {missing}" if missing else 0)
CODE
    dir=$(mktemp -d) || return
    cleanup+=("$dir")
    (
        cd "$dir" || exit
        export SSHQ_HOME=$dir/q
        timeout 60 "$sshq" up && timeout 60 "$sshq" sbatch --wait --wrap hostname && cat slurm-1.out
        status=$?
        timeout 30 "$sshq" down || status=$?
        exit "$status"
    )
}

# -- tests -------------------------------------------------------------------------------------------------------------
UNSTABLE_MAX=3

run_tests() { ${wrapper[@]+"${wrapper[@]}"} "$venv/bin/python" -m pytest "$@"; }

count_failures() {
    "$venv/bin/python" -c 'import json; print(len(json.load(open(".pytest_cache/v/cache/lastfailed"))))' 2>/dev/null || echo 0
}

# try_again STATUS: with real servers, cut cables and a busy machine a test may fail by its own impatience.  A few failures are
# looked at once more, one after the other; what passes then is named UNSTABLE, with its first failure above: it is a defect of the
# test or of sshq, and to be mended, but it does not hold up everything else.
try_again() {
    local count
    count=$(count_failures)
    if [ "$1" != 1 ] || [ "$count" -lt 1 ] || [ "$count" -gt "$UNSTABLE_MAX" ]; then return 1; fi
    say "== $count failed; once more, alone"
    run_tests --last-failed --last-failed-no-failures=none -v || return 1
    say "== UNSTABLE: $count tests failed and then passed; what they said the first time stands above"
}

venv=${SSHQ_VENV:-$PWD/.venv-test}
stage packages provide_packages
if [ -z "${SSHQ_VENV:-}" ]; then
    stage "virtual environment" make_venv || exit 1
fi
stage ruff "$venv/bin/ruff" check sshq tests contrib
stage mypy "$venv/bin/mypy"
stage "import contracts" "$venv/bin/lint-imports"
stage shellcheck check_shell_files
if [ -z "${SSHQ_VENV:-}" ]; then
    stage "installed package" check_installed
fi

selection=()
wrapper=()
enter_namespace
[ "$tier" = full ] || selection=(-m "not slow and not shells and (not hosted or quick)")
[ "$workers" -lt 2 ] || selection+=(-n "$workers")
say "== tests ($tier) after $SECONDS s"
run_tests --cache-clear --durations=10 ${selection[@]+"${selection[@]}"} "$@" || try_again $? || failed+=(tests)

[ ! -d "$SSHQ_KEEP_LOGS" ] || say "What failed tests left: $SSHQ_KEEP_LOGS"
if [ ${#failed[@]} != 0 ]; then
    (IFS=, && say "FAILED after $SECONDS s: ${failed[*]}")
    exit 1
fi
