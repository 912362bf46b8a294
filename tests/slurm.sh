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
set: {runner.total_steps: 60, runner.eval_step: 30, runner.save_step: 30, runner.log_step: 1}
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
until_ "grep -lqs step \$(ls cluster/runs/*/*/train.jsonl | grep -v $first)"
second=$(dirname "$(ls cluster/runs/*/*/train.jsonl | grep -v "$first" | head -1)")
number=$(grep -n "$second\$" cluster/slurm/jobs.txt | cut -d: -f1)
[ -f "$second/done.json" ] || scontrol requeue "${job}_$number"

echo "== the state while it runs"
elp sweep plan.yaml --out cluster --status
scontrol show job "$job" | grep -oE '(ArrayTaskId|Restarts)=[0-9]+|JobState=[A-Z]+' | paste -sd' '
until_ '[ -z "$(squeue --noheader)" ] && [ "$(ls cluster/runs/*/*/done.json | wc -l)" = 4 ]'
echo "== starts of each job"
grep -c 'elp: job ' cluster/runs/*/*/log.txt
elp sweep plan.yaml --out cluster --slurm "partition=local" > /dev/null  # nothing is left; writes the report

echo "== the local run"
elp sweep plan.yaml --out local --jobs 2 --device cpu 2>&1 | tail -20
metrics cluster > cluster.txt
metrics local > local.txt
cat cluster.txt
diff cluster.txt local.txt && echo "equal: the cluster's results are those of the local run"
