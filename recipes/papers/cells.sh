# The part that the scripts of all papers share: `cell` runs one cell of a table. Usage, from such a script:
#   source cells.sh; cells "$@"; cell TASK METHOD BACKBONE [-v FOLD] [more flags of elp run]
# Each cell has its own folder. A finished one is not run again, and an interrupted one continues.

ELP=${ELP:-elp}

cells() {
  if [ $# -lt 2 ]; then
    echo "usage: $0 DATA OUT [TASK ...] (one of: $TASKS)" >&2
    exit 2
  fi
  [ -d "$1" ] || { echo "$0: DATA must be the folder of the corpora, but there is no folder $1" >&2; exit 2; }
  DATA=$1
  OUT=$2
  shift 2
  local task
  for task in "$@"; do
    case " $TASKS " in
      *" $task "*) ;;
      *) echo "$0: TASK must be one of $TASKS, but is $task" >&2; exit 2 ;;
    esac
  done
  [ $# -eq 0 ] || TASKS=$*
}

# cell TASK METHOD BACKBONE [flags]: METHOD is a preset or a file next to this one, BACKBONE a name such as
# wavlm_base_plus; ELP_BACKBONE="elp_local -k FILE" replaces it, and ELP_OPTIONS=KEY=VALUE,,KEY=VALUE is passed to -o.
cell() {
  local task=$1 method=$2 backbone=$3 adapter=$2 fold= options=()
  shift 3
  [ -f "$HERE/$method.yaml" ] && adapter=$HERE/$method.yaml
  if [ "${1:-}" = -v ]; then fold=-$2; fi
  FOLDER=$OUT/$task/$backbone-$(basename "$method")$fold
  [ -z "${ELP_OPTIONS:-}" ] || options=(-o "$ELP_OPTIONS")
  echo "== $FOLDER"
  if [ -f "$FOLDER/done" ]; then return; fi
  mkdir -p "$FOLDER"
  # word splitting is wanted: ELP_BACKBONE may contain flags
  "$ELP" run -m train -a -u ${ELP_BACKBONE:-elp_$backbone} -g "$adapter" -d "elp_$task" --data "$DATA" -p "$FOLDER" \
    --seed "${SEED:-42}" "$@" "${options[@]}"
  touch "$FOLDER/done"
}

# tested_cell: the same, and a test of the checkpoint that was best on dev, as SUPERB reports it.
tested_cell() {
  cell "$@"
  local best
  for best in "$FOLDER"/dev*-best.ckpt; do
    if [ -f "$best" ] && [ ! -f "$FOLDER/tested" ]; then
      "$ELP" run -m evaluate -t test -e "$best" --data "$DATA"
      touch "$FOLDER/tested"
    fi
  done
}
