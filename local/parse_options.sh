# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced: turns the options in "$@" into variables of the sourcing script; what is left in "$@" are its arguments.
#
# An option is a line  name=value  # what it is  of the sourcing script, above the line that sources this file. So an
# option is declared once, and --help prints the script's first comment and these lines with the values of the moment.
#
#   --name value, --name=value    - and _ in names are alike; a variable that was true or false takes only these words
#   --config FILE                 shell assignments; options on the command line win wherever they stand
#   --                            ends the options: a second sourcing takes those behind it (defaults of a recipe first)
#   --help, -h
# Like Kaldi's utils/parse_options.sh, except that variables of the environment are no options, that `=` is understood,
# that an unknown option's message names the nearest one, and that help goes to stdout.

_mpq_declared() { # the option lines of the sourcing script
  sed -n '/^[[:space:]]*\(\.\|source\) .*parse_options\.sh/q; /^[A-Za-z][A-Za-z0-9_]*=.*  # /p' "$0"
}

_mpq_help() {
  local line name what
  awk 'NR > 1 && !/^#/ { exit } NR > 1 && !/SPDX/ { sub(/^# ?/, ""); print }' "$0"
  echo "Options:"
  while IFS= read -r line; do
    name=${line%%=*}
    what=${line#*"  # "}
    printf '  --%-22s %s [%s]\n' "${name//_/-}" "$what" "${!name}"
  done < <(_mpq_declared)
  printf '  --%-22s %s\n' "config FILE" "shell assignments of these options; the command line wins"
}

_mpq_die() { echo "$0: $*" >&2; exit 1; }

# The declared name with the longest common beginning with $1, else with the same words in it.
_mpq_nearest() {
  _mpq_declared | awk -F= -v wanted="$1" '
    function distance(a, b,    i, j, n, m, row, last, before) {
      n = length(a); m = length(b)
      for (j = 0; j <= m; j++) row[j] = j
      for (i = 1; i <= n; i++) {
        last = row[0]; row[0] = i
        for (j = 1; j <= m; j++) {
          before = row[j]
          row[j] = last + (substr(a, i, 1) != substr(b, j, 1))
          if (row[j - 1] + 1 < row[j]) row[j] = row[j - 1] + 1
          if (before + 1 < row[j]) row[j] = before + 1
          last = before
        }
      }
      return row[m]
    }
    { d = distance(wanted, $1); if (NR == 1 || d < best) { best = d; name = $1 } }
    END { gsub("_", "-", name); print "--" name }'
}

_mpq_set() { # option name as on the command line, value
  local name=${1//-/_}
  _mpq_declared | grep -q "^$name=" || _mpq_die "unknown option --$1; did you mean $(_mpq_nearest "$name")?"
  case "${!name}" in
    true | false) case "$2" in true | false) ;; *) _mpq_die "option --$1 is true or false, not '$2'" ;; esac ;;
  esac
  if [ "$name" = cmd ] && [ -z "$2" ]; then _mpq_die "option --cmd is empty"; fi
  printf -v "$name" '%s' "$2"
}

_mpq_configs() { # source every --config among the options, before any other is applied
  while [ $# -gt 0 ]; do
    case "$1" in
      --) return ;;
      --config=*) _mpq_source "${1#*=}"; shift ;;
      --config) [ $# -gt 1 ] || _mpq_die "option --config has no value"; _mpq_source "$2"; shift 2 ;;
      --*=* | --help) shift ;;
      --*) shift; if [ $# -gt 0 ]; then shift; fi ;;
      *) return ;;
    esac
  done
}

_mpq_source() {
  [ -f "$1" ] || _mpq_die "no such file: $1"
  # shellcheck disable=SC1090
  . "$1"
}

_mpq_configs "$@"
while [ $# -gt 0 ]; do
  case "$1" in
    --) shift; break ;;
    --help | -h) _mpq_help; exit 0 ;;
    --config=*) shift ;;
    --config) shift 2 ;;
    --*=*) _mpq_word=${1%%=*}; _mpq_set "${_mpq_word#--}" "${1#*=}"; shift ;;
    --*) [ $# -gt 1 ] || _mpq_die "option $1 has no value"; _mpq_set "${1#--}" "$2"; shift 2 ;;
    *) break ;;
  esac
done
