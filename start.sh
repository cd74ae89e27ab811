#!/usr/bin/env bash
# Sets up what is missing, then runs one command. Usage: see usage() or ./start.sh --help.
set -euo pipefail
CALLED_FROM=$PWD
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

VENV=.venv

usage() {
  cat <<'TEXT'
Usage: ./start.sh [command] [arguments]

  run     serve the page (default; --host, --port, or HRN_OPT_HOST, HRN_OPT_PORT; 127.0.0.1:8080 unless told;
          run --help lists the other settings)
  fetch   get the HRN model, 1.1 GB, and prepare it (--from a mirror or folder, --to DIR); the page runs without it
  test    run all tests (--fast: only the fast ones; other arguments go to pytest)
  bench   measure speed and memory, against the published code (--quick: 3 minutes, with what is installed)
  doctor  say what this machine has and what to do about what is missing (--json)

The first start makes .venv and installs the pinned requirements. An active environment, or a container that has
them all, is used as it is. PYTHON=path chooses the interpreter, HRN_OPT_NO_VENV=1 never makes a .venv (0: always),
TORCH_INDEX_URL=url adds an index to take torch from (PyTorch's CPU index saves gigabytes on a machine without a GPU).
TEXT
}

fail() {
  printf 'start.sh: %s\n' "$1" >&2
  exit 1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.10 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      command -v -- "$candidate"
      return
    fi
  done
  fail "no Python 3.10 or newer found; set PYTHON=/path/to/python3, or install one\
 (Debian, Ubuntu: sudo apt install python3 python3-venv)."
}

has_all() { # has_all PYTHON FILE...: every requirement is installed, in whatever version
  "$1" - "${@:2}" <<'PY'
import re, sys
from importlib.metadata import PackageNotFoundError, version
for path in sys.argv[1:]:
    for line in open(path, encoding="utf-8"):
        if name := re.match(r"[A-Za-z][\w.-]*", line):
            try:
                version(name[0])
            except PackageNotFoundError:
                sys.exit(1)
PY
}

digest() { # digest PYTHON FILE...: changes when the interpreter or one of the files does
  "$1" - "${@:2}" <<'PY'
import hashlib, sys
content = b"\0".join(open(path, "rb").read() for path in sys.argv[1:])
print(hashlib.sha256(sys.version.encode() + content).hexdigest())
PY
}

install() { # install PYTHON FILE...: what a file called *-nodeps.txt names comes without its own requirements
  local python=$1 file whole=() alone=()
  shift
  for file in "$@"; do
    if [[ $file == *-nodeps.txt ]]; then alone+=(-r "$file"); else whole+=(-r "$file"); fi
  done
  printf 'start.sh: installing %s; once, some minutes.\n' "$*" >&2
  run_pip "$python" "${whole[@]}"
  [[ ${#alone[@]} == 0 ]] || run_pip "$python" --no-deps "${alone[@]}"
}

run_pip() { # run_pip PYTHON OPTION...
  local python=$1 options=("${@:2}")
  [[ -t 2 ]] || options+=(--quiet) # a person sees the downloads move, a log stays short
  [[ -z "${TORCH_INDEX_URL:-}" ]] || options+=(--extra-index-url "$TORCH_INDEX_URL")
  "$python" -m pip install --disable-pip-version-check "${options[@]}" >&2 ||
    fail "the installation did not finish (pip says why above); mend that and start again."
}

make_venv() {
  local python=$1
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make environments; on Debian or Ubuntu: sudo apt install python3-venv."
  if [[ -d $VENV ]] && ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    rm -rf -- "$VENV" # half made, or its Python is gone
  fi
  [[ -d $VENV ]] || "$python" -m venv "$VENV" || fail "could not make $VENV here; is the disk full?"
}

# prepare_venv PYTHON STAMP FILE...: the stamp is written last, so that an interrupted install never looks done
prepare_venv() {
  local python=$1 stamp=$VENV/installed-$2 wanted
  shift 2
  wanted=$(digest "$python" "$@")
  [[ -x $VENV/bin/python && -f $stamp && $(<"$stamp") == "$wanted" ]] && return
  make_venv "$python"
  rm -f -- "$stamp"
  install "$VENV/bin/python" "$@"
  printf '%s\n' "$wanted" >"$stamp"
}

uses_active() { # the environment that is active now, or was asked for, instead of .venv
  case ${HRN_OPT_NO_VENV:-} in
    1) true ;;
    0) false ;;
    *) [[ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]] ;;
  esac
}

in_container() {
  [[ "${HRN_OPT_NO_VENV:-}" != 0 ]] && [[ -e /.dockerenv || -e /run/.containerenv ]]
}

prepare() { # prepare STAMP FILE...: sets PY to a Python that has all requirements
  local python
  python=$(find_python)
  PY=$python
  if uses_active; then
    has_all "$python" "${@:2}" || install "$python" "${@:2}"
  elif in_container && has_all "$python" "${@:2}"; then
    return
  else
    prepare_venv "$python" "$@"
    PY=$VENV/bin/python
  fi
}

run_tests() {
  local argument arguments=()
  for argument in "$@"; do
    if [[ $argument == --fast ]]; then
      arguments+=(-m "not slow and not browser and not oracle")
    else
      arguments+=("$argument")
    fi
  done
  exec "$PY" -m pytest ${arguments[@]+"${arguments[@]}"}
}

fetch() { # its arguments are paths: it runs where it was called
  [[ $PY == /* ]] || PY=$PWD/$PY
  export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
  cd -- "$CALLED_FROM"
  exec "$PY" -m hrn_opt fetch "$@"
}

examine() { # the doctor installs nothing, and looks through the Python that the other commands would use
  local python
  python=$(find_python)
  uses_active || [[ ! -x $VENV/bin/python ]] || python=$VENV/bin/python
  exec "$python" -m hrn_opt doctor "$@"
}

command=${1:-run}
case $command in
  -h | --help | help) usage; exit ;;
  -*) command=run ;; # ./start.sh --port 9000
  *) shift $(($# > 0)) ;;
esac

case $command in
  run)
    prepare run requirements.txt
    exec "$PY" app.py "$@"
    ;;
  fetch)
    prepare run requirements.txt
    fetch "$@"
    ;;
  test)
    prepare test requirements.txt requirements-dev.txt requirements-oracle.txt requirements-oracle-nodeps.txt
    run_tests "$@"
    ;;
  bench)
    if [[ " $* " == *" --quick "* ]]; then # what the other commands installed is used, nothing more is downloaded
      prepare run requirements.txt
    else
      prepare test requirements.txt requirements-dev.txt requirements-oracle.txt requirements-oracle-nodeps.txt
    fi
    exec "$PY" -m benchmarks "$@"
    ;;
  doctor) examine "$@" ;;
  *)
    printf 'start.sh: unknown command "%s".\n\n' "$command" >&2
    usage >&2
    exit 2
    ;;
esac
