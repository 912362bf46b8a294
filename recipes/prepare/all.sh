#!/usr/bin/env bash
# Check every corpus in DATA and write its tables to TABLES/<corpus>.
#   bash recipes/prepare/all.sh DATA TABLES [options of elp prepare, such as --decode]
set -u
if [ $# -lt 2 ]; then
  echo "usage: bash recipes/prepare/all.sh DATA TABLES [options of elp prepare]" >&2
  exit 2
fi
data=$1 tables=$2
shift 2
found=0 failed=0

prepare() { # corpus, folder that shows that it exists, root, out, further options
  local corpus=$1 sign=$2 root=$3 out=$4
  shift 4
  [ -d "$sign" ] || return 0
  found=$((found + 1))
  echo "== $corpus: $root"
  ${ELP:-elp} prepare "$corpus" "$root" "$out" "$@" || failed=$((failed + 1))
}

libri=$data/LibriSpeech
prepare librispeech "$libri" "$libri" "$tables/librispeech" "$@"
# the same OUT: training on 10h and testing on dev-clean need one folder of tables
prepare librilight "$libri/librispeech_finetuning" "$libri" "$tables/librispeech" "$@"
prepare voxceleb1 "$data/VoxCeleb1" "$data/VoxCeleb1" "$tables/voxceleb1" "$@"
prepare iemocap "$data/IEMOCAP" "$data/IEMOCAP" "$tables/iemocap" "$@"
fluent=$data/fluent_speech_commands_dataset
prepare fluent-speech-commands "$fluent" "$fluent" "$tables/fluent-speech-commands" "$@"

if [ "$found" -eq 0 ]; then
  echo "$data contains none of LibriSpeech, VoxCeleb1, IEMOCAP, fluent_speech_commands_dataset" >&2
  exit 2
fi
[ "$failed" -eq 0 ] || { echo "$failed of $found corpora have problems" >&2; exit 2; }
