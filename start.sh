#!/usr/bin/env bash
# Sets up what is missing, then runs one command. Usage: see usage() or ./start.sh --help.
set -euo pipefail
CALLED_FROM=$PWD
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

VENV=.venv
RUN_EXTRAS=(web hrn) # of pyproject.toml
TEST_EXTRAS=(web hrn dev oracle oracle-no-deps)
ALONE=face-alignment # is installed without its own needs; pyproject.toml says why

usage() {
  cat <<'TEXT'
Usage: ./start.sh [command] [arguments]

  serve, run     serve the page (default; --host, --port, or HRN_OPT_HOST, HRN_OPT_PORT; 127.0.0.1:8080 unless told)
  make           make a textured 3D face from each photo (make PHOTO... --out DIR)
  fetch          get the HRN model, 1.1 GB, and prepare it; everything runs without it
  hash-password  make a user of the page
  make-token     make a token for a program that uses the page
  doctor         say what this machine has and what to do about what is missing; installs nothing
  health         ask the page served here whether it lives; for what watches a container; installs nothing
  test           run all tests (--fast: only the fast ones; other arguments go to pytest)
  bench          measure speed and memory, against the published code (--quick: this engine alone, some minutes, with what is installed)

All but test and bench are those of `hrn-opt`; each has --help. The first start makes .venv and installs the pinned
requirements. An active environment, or a container that has them all, is used as it is. PYTHON=path chooses the
interpreter, HRN_OPT_NO_VENV=1 never makes a .venv (0: always), TORCH_INDEX_URL=url adds an index to take torch from
(PyTorch's CPU index saves gigabytes on a machine without a GPU).
TEXT
}

fail() {
  printf 'start.sh: %s\n' "$1" >&2
  exit 1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v -- "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer found; set PYTHON=/path/to/python3, or install one\
 (Debian, Ubuntu: sudo apt install python3 python3-venv)."
}

# needs_of PYTHON EXTRA...: what pyproject.toml asks for, a requirement a line. Before them a digest, which changes when
# they, a pin or the interpreter do; and "complete" where this interpreter has them all, in whatever version.
needs_of() {
  "$1" - "${@:2}" <<'PY'
import hashlib, re, sys, tomllib
from importlib.metadata import PackageNotFoundError, version

def is_installed(requirement):
    try:
        return bool(version(re.match(r"[\w.-]+", requirement)[0]))
    except PackageNotFoundError:
        return False

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
needs = [*project["dependencies"], *(need for extra in sys.argv[1:] for need in project["optional-dependencies"][extra])]
with open("constraints.txt", encoding="utf-8") as file:
    print(hashlib.sha256("\n".join((sys.version, *needs, file.read())).encode()).hexdigest())
print("complete" if all(map(is_installed, needs)) else "incomplete", *needs, sep="\n")
PY
}

run_pip() { # run_pip PYTHON OPTION...
  local python=$1 options=(-c constraints.txt "${@:2}")
  [[ -t 2 ]] || options+=(--quiet) # a person sees the downloads move, a log stays short
  [[ -z "${TORCH_INDEX_URL:-}" ]] || options+=(--extra-index-url "$TORCH_INDEX_URL")
  "$python" -m pip install --disable-pip-version-check "${options[@]}" >&2 ||
    fail "the installation did not finish (pip says why above); mend that and start again."
}

install() { # install PYTHON STAMP REQUIREMENT...
  local need whole=() alone=()
  for need in "${@:3}"; do
    if [[ $need == "$ALONE"* ]]; then alone+=("$need"); else whole+=("$need"); fi
  done
  printf 'start.sh: installing what "%s" needs; once, some minutes.\n' "$2" >&2
  run_pip "$1" "${whole[@]}"
  [[ ${#alone[@]} == 0 ]] || run_pip "$1" --no-deps "${alone[@]}"
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

prepare() { # prepare STAMP EXTRA...: sets PY to a Python that has the package's requirements and those of the extras
  local stamp=$VENV/installed-$1 needs=() need
  PY=$(find_python)
  while IFS= read -r need; do needs+=("$need"); done < <(needs_of "$PY" "${@:2}")
  [[ ${#needs[@]} -gt 2 ]] || fail "pyproject.toml and constraints.txt cannot be read here."
  if uses_active || { in_container && [[ ${needs[1]} == complete ]]; }; then
    [[ ${needs[1]} == complete ]] || install "$PY" "$1" "${needs[@]:2}"
    return
  fi
  if ! [[ -x $VENV/bin/python && -f $stamp && $(<"$stamp") == "${needs[0]}" ]]; then
    make_venv "$PY"
    rm -f -- "$stamp"
    install "$VENV/bin/python" "$1" "${needs[@]:2}"
    printf '%s\n' "${needs[0]}" >"$stamp" # last, so that an interrupted installation never looks done
  fi
  PY=$VENV/bin/python
}

call() { # call COMMAND ARGUMENT...: of hrn-opt. Its arguments may be paths, so it runs where start.sh was called
  [[ $PY == /* ]] || PY=$PWD/$PY
  export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} HRN_OPT_PROGRAM=./start.sh
  export PYTHONSAFEPATH=1 # no module is taken from there (Python 3.11 and newer know this)
  cd -- "$CALLED_FROM"
  exec "$PY" -m hrn_opt "$@"
}

command=${1:-serve}
case $command in
  -h | --help | help) usage; exit ;;
  -*) command=serve ;; # ./start.sh --port 9000
  *) shift $(($# > 0)) ;;
esac

case $command in
  run | serve | make | fetch | hash-password | make-token)
    prepare run "${RUN_EXTRAS[@]}"
    call "${command/#run/serve}" "$@"
    ;;
  doctor | health) # looks through the Python that the other commands would use
    PY=$(find_python)
    uses_active || [[ ! -x $VENV/bin/python ]] || PY=$VENV/bin/python
    call "$command" "$@"
    ;;
  test)
    prepare test "${TEST_EXTRAS[@]}"
    exec "$PY" -m pytest "$@"
    ;;
  bench)
    if [[ " $* " == *" --quick "* ]]; then # downloads no more than the page needs
      prepare run "${RUN_EXTRAS[@]}"
    else
      prepare test "${TEST_EXTRAS[@]}"
    fi
    exec "$PY" -m benchmarks "$@"
    ;;
  *)
    printf 'start.sh: unknown command "%s".\n\n' "$command" >&2
    usage >&2
    exit 2
    ;;
esac
