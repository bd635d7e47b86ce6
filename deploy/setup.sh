# Sourced by deploy/quickstart and tests/run: system packages, a Python, the virtual environment.
# Prints one line per thing it changes and nothing otherwise.
# shellcheck shell=bash

fail() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 1
}

# install_packages NAME...: by apt, those that are missing. No service of theirs is started.
install_packages() {
  local name missing=()
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "these Debian packages are needed, and this machine has no apt: ${missing[*]}"
  [ "$(id -u)" = 0 ] || fail "these packages are missing and only root can install them: ${missing[*]}"
  echo "installing ${missing[*]}"
  local policy=/usr/sbin/policy-rc.d log
  log=$(mktemp)
  # invoke-rc.d asks this file before it starts a service: 101 means no. One that is there already is put back.
  if [ -e "$policy" ]; then mv "$policy" "$policy.before-corten"; fi
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  local status=0
  {
    apt-get -q update || true
    DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 install "${missing[@]}"
  } >"$log" 2>&1 </dev/null || status=$?
  rm -f "$policy"
  if [ -e "$policy.before-corten" ]; then mv "$policy.before-corten" "$policy"; fi
  if [ "$status" != 0 ]; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    fail "apt-get could not install ${missing[*]}"
  fi
  rm -f "$log"
}

# find_python: sets PYTHON to a Python of 3.11 or newer that can make virtual environments.
find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      PYTHON=$(command -v "$candidate")
      return 0
    fi
  done
  return 1
}

# make_environment EXTRA: .venv of the checkout with Corten in it ("" or "[dev]"), made or brought up to date.
make_environment() {
  find_python || { install_packages python3 && find_python; } || fail "Python 3.11 or newer is needed; there is none on PATH"
  if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
    install_packages python3-venv
    find_python && "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || fail "$PYTHON cannot make virtual environments"
  fi
  local stamp want log
  stamp=.venv/.corten$1
  want=$(sha256sum pyproject.toml protos/build.py | sha256sum | cut -d' ' -f1)
  if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
    echo "making .venv with $("$PYTHON" --version)"
    rm -rf .venv
    "$PYTHON" -m venv .venv
  fi
  if ! grep -qsx "$want" "$stamp" '.venv/.corten[dev]'; then
    echo "installing Corten${1:+ and its test tools} into .venv"
    log=$(mktemp)
    if ! .venv/bin/python -m pip install -q --disable-pip-version-check -e ".$1" >"$log" 2>&1 </dev/null; then
      tail -n 20 "$log" >&2
      rm -f "$log"
      fail "pip could not install Corten"
    fi
    rm -f "$log"
    echo "$want" >"$stamp"
  fi
}
