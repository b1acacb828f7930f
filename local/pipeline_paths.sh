# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# Sourced by pipeline.sh after its options: where things are, and when they are finished. Names of experiments come from
# the settings that made them, so that two settings never share one.

# The first path in the Kaldi recipe directory that matches one of the list $1 (globs; %s is $2), else what the first
# would be.
first_of() {
  local pattern path
  for pattern in $1; do
    for path in "$kaldi_dir"/${pattern//%s/${2:-}}; do
      if [ -e "$path" ]; then echo "$path"; return; fi
    done
  done
  pattern=${1%% *}
  echo "$kaldi_dir/${pattern//%s/${2:-}}"
}

# A checkout without symbolic links leaves a link as a small file that holds its target: follow that too.
follow() {
  local target
  if [ -f "$1" ] && [ "$(wc -c < "$1")" -lt 1000 ] && [ "$(wc -w < "$1")" = 1 ]; then
    target=$(dirname "$1")/$(cat "$1")
    if [ -f "$target" ]; then echo "$target"; return; fi
  fi
  echo "$1"
}

lang_dir=$(first_of "$lang")
words=$lang_dir/words.txt
# What is not in names of LMs but decides what comes out of rescoring and scoring.
tag() { # method
  local jobs=""
  if [ "$max_jobs" != 0 ]; then jobs=_jobs$max_jobs; fi
  case "$1" in
    first_pass) echo "$jobs" ;;
    lattice*) echo "_$1_w$weight$jobs" ;;
    *) echo "_n$(paths_of "$1")_w$weight$jobs" ;;
  esac
}
paths_of() { if [ "$1" = nbest ]; then echo "$N"; else echo "${1#nbest}"; fi; }
label() { # LM, width, method: what the table calls it; the method is said where it is not nbest alone
  local shown=$1
  if is_ratio "$2"; then shown+=" 1/${2#x}"; elif [ "$2" != float ]; then shown+=" $2 bit"; fi
  case "$3" in
    lattice) shown+=" lattice" ;;
    lattice*) shown+=" ${3#lattice}-gram lattice" ;;
    *) if [ "$rescore" != nbest ]; then shown+=" $(paths_of "$3")-best"; fi ;;
  esac
  echo "$shown"
}

text_of() { # train or a set
  if [ "$1" != train ]; then echo "$(first_of "$data" "$1")/text"; return; fi
  local whole
  whole=$(follow "$(first_of "$train_text")")
  if [ "$max_train" = 0 ] || [ ! -f "$whole" ]; then echo "$whole"; return; fi
  local part=$out/data/train_$max_train/text
  if ! fresh "$part" "$whole"; then
    mkdir -p "${part%/*}"
    head -n "$max_train" "$whole" > "$part.tmp"
    mv "$part.tmp" "$part"
  fi
  echo "$part"
}

test_sets() { # sets with a perplexity of their own beside the one that is called dev
  if [ "$dev" = dev ]; then echo "$evals"; else echo "$dev $evals"; fi
}

is_subset() { [ "$max_jobs" != 0 ] && [ "$max_jobs" -lt "$(cat "$(first_of "$decode" "$1")/num_jobs")" ]; }
decode_of() { if is_subset "$1"; then echo "$out/exp/subset_$max_jobs/decode_$1"; else first_of "$decode" "$1"; fi; }
data_of() {
  if is_subset "$1"; then echo "$out/data/subset_$max_jobs/$1"
  elif lacks_stm "$1"; then echo "$out/data/with_stm/$1"
  else first_of "$data" "$1"; fi
}
lacks_stm() { [ "$score_mode" = stm ] && [ ! -e "$(first_of "$data" "$1")/stm" ]; }
is_ratio() { [[ $1 == x* ]]; } # a width that stands for a width of each part
quantized() { # LM, width
  if [ "$2" = float ]; then echo "$1"; elif is_ratio "$2"; then echo "$1_${fit}_${search}_$2"; else echo "$1_${fit}_${2}bit"; fi
}
searched() { echo "exp/search/$1_${search}_$2"; } # LM, ratio
search_widths() { # LM, ratio
  if fresh "$(searched "$1" "$2")/precision.json" "exp/$1/model.safetensors" "$(conf "search/$search")"; then return; fi
  mpq search --config "$(conf "search/$search")" --ratio "${2#x}" --data data/lm --device "$device" "exp/$1" "$(searched "$1" "$2")"
}
quantized_systems() {
  local lm width
  for lm in $lms; do for width in $bits; do quantized "$lm" "$width"; done; done
}
is_float() { [[ " $lms " == *" $1 "* ]]; }
model() { if is_float "$1"; then echo "$out/exp/$1"; else echo "$out/exp/$1/model.mpq"; fi; }
model_file() { if is_float "$1"; then echo "$out/exp/$1/model.safetensors"; else model "$1"; fi; }
rescored() { # set, system, method
  if [ "$2" = first_pass ]; then decode_of "$1"; else echo "$out/exp/rescored/decode_$1_$2$(tag "$3")"; fi
}
scored() { echo "$1$(tag "$2")"; } # system, method
old_lm_file() { if [ -e "$lang_dir/G.carpa" ]; then echo "$lang_dir/G.carpa"; else echo "$lang_dir/G.fst"; fi; }

check_inputs() {
  local missing=() path set n
  for n in $rescore; do
    [[ $n =~ ^(lattice|nbest)([1-9][0-9]*)?$ ]] || fail "--rescore is a list of nbest, nbest20, lattice and lattice6, not $n"
  done
  for path in "$(text_of train)" "$words" "$(old_lm_file)"; do [ -e "$path" ] || missing+=("$path"); done
  for path in $lms; do [ -e "$(conf "lm/$path")" ] || missing+=("$(conf "lm/$path")"); done
  [ -e "$(conf "fit/$fit")" ] || missing+=("$(conf "fit/$fit")")
  for n in $bits; do
    [[ $n =~ ^(1|2|4|8|16|x[1-9][0-9]*)$ ]] || fail "--bits is a list of 1, 2, 4, 8 and of x16 or another ratio, not $n"
    ! is_ratio "$n" || [ -e "$(conf "search/$search")" ] || missing+=("$(conf "search/$search")")
  done
  for set in $dev $evals; do
    local of_set=(text utt2spk)
    if [ "$score_mode" = stm ]; then of_set+=(segments reco2file_and_channel); fi
    for n in "${of_set[@]}"; do
      path=$(first_of "$data" "$set")/$n
      [ -e "$path" ] || missing+=("$path")
    done
    for n in num_jobs lat.1.gz; do
      path=$(first_of "$decode" "$set")/$n
      [ -e "$path" ] || missing+=("$path")
    done
  done
  if [ ${#missing[@]} -gt 0 ]; then
    printf 'run.sh: missing %d input(s):\n' ${#missing[@]} >&2
    printf '  %s\n' "${missing[@]}" >&2
    fail "options say where things are: --train-text, --lang, --data, --decode, --dev, --evals (--help)"
  fi
}

# The first max_jobs jobs of a set, and the references of their utterances.
subset() {
  if ! is_subset "$1"; then return; fi
  local from to keys table n
  from=$(first_of "$decode" "$1") to=$(decode_of "$1")
  if fresh "$to/num_jobs" "$from/num_jobs" && [ -e "$(data_of "$1")/utt2spk" ]; then return; fi
  mkdir -p "$to" "$(data_of "$1")"
  keys=$to/keys
  : > "$keys"
  for n in $(seq "$max_jobs"); do
    ln -sfn "$from/lat.$n.gz" "$to/lat.$n.gz"
    "$MPQ_PYTHON" "$here/lattice_keys.py" "$from/lat.$n.gz" >> "$keys"
  done
  for table in final.mdl frame_subsampling_factor frame_shift; do
    if [ -e "$from/../$table" ]; then ln -sfn "$from/../$table" "$to/../$table"; fi
  done
  for table in text segments reco2file_and_channel stm glm utt2spk; do
    local source
    source=$(first_of "$data" "$1")/$table
    case $table in
      text | segments | utt2spk)
        if [ -e "$source" ]; then awk 'NR == FNR { kept[$1]; next } $1 in kept' "$keys" "$source" > "$(data_of "$1")/$table"; fi ;;
      *) if [ -e "$source" ]; then ln -sfn "$source" "$(data_of "$1")/$table"; fi ;;
    esac
  done
  echo "$max_jobs" > "$to/num_jobs"
}

# A data directory with an stm made of its segments and text, for a set of a recipe that scores by stm but has none
# here.
make_stm() {
  if is_subset "$1" || ! lacks_stm "$1"; then return; fi
  local from to table
  from=$(first_of "$data" "$1") to=$(data_of "$1")
  mkdir -p "$to"
  for table in text utt2spk segments reco2file_and_channel glm; do
    if [ -e "$from/$table" ]; then ln -sfn "$from/$table" "$to/$table"; fi
  done
  awk '
    FILENAME ~ /reco2file_and_channel$/ { file[$1] = $2; channel[$1] = $3; next }
    FILENAME ~ /utt2spk$/ { speaker[$1] = $2; next }
    FILENAME ~ /segments$/ { recording[$1] = $2; begin[$1] = $3; end[$1] = $4; next }
    $1 in recording {
      key = $1; sub(/^[^ \t]+[ \t]*/, "")
      print file[recording[key]], channel[recording[key]], speaker[key], begin[key], end[key], $0
    }' "$from/reco2file_and_channel" "$from/utt2spk" "$from/segments" "$from/text" > "$to/stm.tmp"
  mv "$to/stm.tmp" "$to/stm"
}

# Scoring looks for the acoustic model beside the decode directory.
link_model() {
  local file beside
  beside=$(dirname "$(first_of "$decode" "$dev")")
  mkdir -p exp/rescored
  for file in final.mdl frame_subsampling_factor frame_shift; do
    if [ -e "$beside/$file" ]; then ln -sfn "$beside/$file" "exp/rescored/$file"; fi
  done
}

rescore_set() { # set, system, method, directory to write
  local model options=(--cmd "$cmd" --threads "$threads" --device "$device" --skip-scoring true)
  options+=(--old-lm "$(old_lm_file)")
  model=$(model "$2")
  if [[ $3 == lattice* ]]; then
    if [ "$3" != lattice ]; then options+=(--max-ngram-order "${3#lattice}"); fi
    "$here/lmrescore_pruned.sh" "${options[@]}" --weight "$weight" \
      "$lang_dir" "$model" "$(data_of "$1")" "$(decode_of "$1")" "$4"
  else
    "$here/lmrescore_nbest.sh" "${options[@]}" --N "$(paths_of "$3")" \
      "$weight" "$lang_dir" "$model" "$(data_of "$1")" "$(decode_of "$1")" "$4"
  fi
}

score() { # system, method
  local dir sets=() set of_set made_from=() finished=.done
  dir=exp/score/$(scored "$1" "$2")
  if [ "$1" = first_pass ]; then finished=num_jobs; fi
  for set in $dev $evals; do
    of_set=$(rescored "$set" "$1" "$2")
    sets+=("$(data_of "$set")=$of_set")
    made_from+=("$of_set/$finished")
  done
  if fresh "$dir/wer.json" "${made_from[@]}"; then return; fi
  local options=(--words "$words" --dev "${sets[0]}" --mode "$(score_mode_now)")
  for set in "${sets[@]:1}"; do options+=(--eval "$set"); done
  if [ -n "$ignore_words" ]; then options+=(--ignore-words "$ignore_words"); fi
  mpq score wer "${options[@]}" "$dir"
}

# An stm of all utterances cannot score some of them.
score_mode_now() { if [ "$max_jobs" = 0 ]; then echo "$score_mode"; else echo text; fi; }

print_table() { # references, rows
  local file
  if [ "$write_results" = true ]; then
    for file in $results; do # the command is written beside the table: no paths of this machine
      mpq score table --into "$(realpath --relative-to=. "$file")" "$@" > /dev/null
    done
  fi
  mpq score table --plot exp/score/wer.png "$@"
}
