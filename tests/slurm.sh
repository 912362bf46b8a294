#!/bin/bash
# Start a real SLURM on this machine's loopback and check `elp sweep --slurm` against the local run.
# Needs root on Debian or Ubuntu; installs slurm-wlm and munge. Usage: bash tests/slurm.sh FOLDER
set -euo pipefail
folder=$(realpath "${1:?usage: bash tests/slurm.sh FOLDER}")
mkdir -p "$folder"

# --- SLURM: one node, no accounting, no cgroups --------------------------------------------------------------------
command -v sbatch munged > /dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurm-wlm munge
state=$(mktemp -d /tmp/elp-slurm-XXXXXX)
chmod 755 "$state"
host=$(hostname -s)
mkdir -p /run/munge && chown munge: /run/munge
[ -f /etc/munge/munge.key ] || mungekey --create
pgrep -x munged > /dev/null || runuser -u munge -- munged
cat > "$state/slurm.conf" << END
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/d
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=30
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=local Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
mkdir -p "$state/ctld" "$state/d"
export SLURM_CONF="$state/slurm.conf"
stop() {
  timeout 30 scancel --user "$(id -un)" || true
  sleep 5
  kill "$(cat "$state/slurmd.pid")" "$(cat "$state/slurmctld.pid")" 2> /dev/null || true
}
trap stop EXIT
slurmctld
slurmd
for _ in $(seq 60); do sinfo --noheader --format %t | grep -q idle && break; sleep 1; done
sinfo

# --- a small plan ----------------------------------------------------------------------------------------------------
cd "$folder"
export ELP_CACHE="$folder/cache" OMP_NUM_THREADS=1
elp mini-superb mini --size tiny > /dev/null
elp mini-backbone mini.pt
cat > plan.yaml << END
name: cluster
data: mini
tasks: [ic, er]
methods: [weighted_sum, le]
backbones: [mini.pt]
seeds: [0]
config: "{task}_quick"
set: {runner.total_steps: 300, runner.eval_step: 150, runner.save_step: 150, runner.log_step: 1}
END
queue() { squeue --noheader --format '%i %T restarts=%r'; }
metrics() { python -c '
import json, sys
runs = json.load(open(sys.argv[1] + "/report/report.json"))["runs"]
print(*sorted((run["key"][:10], run["task"], run["method"], run["state"], *run["metrics"].values(), run["dev"]) for run in runs), sep="\n")
' "$1"; }
# wait until a command succeeds
until_() { for _ in $(seq 1600); do eval "$1" && return; sleep 0.5; done; echo "waited in vain for: $1"; exit 1; }

echo "== submit"
elp sweep plan.yaml --out cluster --slurm "partition=local,time=00:30:00" --array-limit 2 --device cpu
job=$(squeue --noheader --format %A | sort -n | head -1)

echo "== scancel --signal=TERM of the first job that trains: it saves, ends with 143 and goes back into the queue"
until_ 'grep -qs step cluster/runs/*/*/train.jsonl'
first=$(dirname "$(grep -ls step cluster/runs/*/*/train.jsonl | head -1)")
number=$(grep -n "$first\$" cluster/slurm/jobs.txt | cut -d: -f1)
# scancel keeps asking until the job has the signal, and reports an error if it is back in the queue by then
timeout 20 scancel --signal=TERM "${job}_$number" || true
until_ "grep -qs 'stopped by SIGTERM' $first/log.txt"
grep -o 'elp: stopped by SIGTERM after step [0-9]* of [0-9]*' "$first/log.txt"

echo "== scontrol requeue of another job that trains: SLURM kills it, and it resumes from its last checkpoint"
# one of those that train and have not ended
other() {
  for log in cluster/runs/*/*/train.jsonl; do
    folder=$(dirname "$log")
    if [ "$folder" != "$first" ] && [ ! -f "$folder/done.json" ] && grep -qs step "$log"; then echo "$folder"; return; fi
  done
  return 1
}
until_ 'other > /dev/null'
second=$(other)
number=$(grep -n "$second\$" cluster/slurm/jobs.txt | cut -d: -f1)
scontrol requeue "${job}_$number"

echo "== the state while it runs"
elp sweep plan.yaml --out cluster --status
scontrol show job "$job" | grep -oE '(ArrayTaskId|Restarts)=[0-9]+|JobState=[A-Z]+' | paste -sd' '
until_ '[ -z "$(squeue --noheader)" ] && [ "$(ls cluster/runs/*/*/done.json | wc -l)" = 4 ]'
echo "== starts of each job"
grep -c 'elp: job ' cluster/runs/*/*/log.txt
for folder in "$first" "$second"; do [ "$(grep -c 'elp: job ' "$folder/log.txt")" -ge 2 ]; done
elp sweep plan.yaml --out cluster --slurm "partition=local" > /dev/null  # nothing is left; writes the report

echo "== the local run"
elp sweep plan.yaml --out local --jobs 2 --device cpu 2>&1 | tail -20
metrics cluster > cluster.txt
metrics local > local.txt
cat cluster.txt
diff cluster.txt local.txt && echo "equal: the cluster's results are those of the local run"

echo "== jobs of two processes: torchrun inside of an array element, stopped once"
sed -e 's/^name: .*/name: together/' -e 's/^tasks: .*/tasks: [ic]/' -e 's/^methods: .*/methods: [le]\nprocesses: 2/' plan.yaml > together.yaml
elp sweep together.yaml --out together --slurm "partition=local,cpus-per-task=2" --device cpu
job=$(squeue --noheader --format %A | sort -n | head -1)
until_ 'grep -qs step together/runs/*/*/train.jsonl'
timeout 20 scancel --signal=TERM "${job}_1" || true
until_ "grep -qs 'stopped by SIGTERM' together/runs/*/*/log.txt"
until_ '[ -z "$(squeue --noheader)" ] && ls together/runs/*/*/done.json'
grep -c 'elp: job ' together/runs/*/*/log.txt
elp sweep together.yaml --out together --slurm "partition=local" > /dev/null
elp sweep together.yaml --out together_local --jobs 1 --device cpu 2>&1 | tail -3
metrics together > together.txt
metrics together_local | diff together.txt - && echo "equal: two processes on the cluster give what two local ones give"

echo "== a search with proposals: each call submits a batch"
sed -e 's/^name: .*/name: searched/' -e 's/^tasks: .*/tasks: [ic]/' -e 's/^seeds: .*/seeds: []/' -e 's/total_steps: 300/total_steps: 20/' \
  -e 's/eval_step: 150/eval_step: 20/' plan.yaml > searched.yaml
echo 'search: {engine: optuna, seeds: [9], trials: 4, batch: 2, grid: {optimizer.lr: {low: 1.0e-4, high: 1.0e-1, log: true}}}' >> searched.yaml
for _ in 1 2 3; do
  elp sweep searched.yaml --out searched --slurm "partition=local" --device cpu | tail -1
  until_ '[ -z "$(squeue --noheader)" ]'
done
elp sweep searched.yaml --out searched_local --jobs 2 --device cpu > /dev/null 2>&1
cat searched/search.csv
diff searched/search.csv searched_local/search.csv && echo "equal: the cluster's proposals are those of the local run"
