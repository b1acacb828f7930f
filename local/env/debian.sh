# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What comes from the system: a C++ compiler, sclite, for recipes/mini espeak-ng. Installed by root with apt-get, else named.

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null && [ -z "${MPQ_NO_APT:-}" ]; }

# Install Debian packages, after an update of the lists if need be; false if that fails.
apt_install() {
  echo "make_env: apt-get install $*" >&2
  local quiet=(-qq -o=Dpkg::Use-Pty=0)
  DEBIAN_FRONTEND=noninteractive apt-get install "${quiet[@]}" -y "$@" > /dev/null 2>&1 && return
  apt-get update "${quiet[@]}" > /dev/null 2>&1 || true
  DEBIAN_FRONTEND=noninteractive apt-get install "${quiet[@]}" -y "$@" > /dev/null
}

need_compiler() {
  if command -v c++ > /dev/null || command -v g++ > /dev/null || [ -n "${CXX:-}" ]; then return; fi
  if can_apt && apt_install g++; then return; fi
  echo "make_env: no C++ compiler; install one (Debian: apt-get install g++)" >&2
  exit 1
}

sclite_is_there() {
  command -v sclite > /dev/null || [ -x /usr/lib/sctk/bin/sclite ] || [ -x "${KALDI_ROOT:-/nonexistent}/tools/sctk/bin/sclite" ]
}

# sclite is wanted, not needed: without it scoring falls back on kaldialign and says so.
want_sclite() {
  if sclite_is_there; then return; fi
  if can_apt && apt_install sctk && sclite_is_there; then return; fi
  echo "make_env: sclite is not installed, scoring goes without it (Debian: apt-get install sctk)" >&2
}

# The one that speaks in recipes/mini; what is missing, the recipe itself says.
want_espeak() {
  if command -v espeak-ng > /dev/null; then return; fi
  if can_apt; then apt_install espeak-ng || true; fi
}
