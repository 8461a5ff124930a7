#!/usr/bin/env bash
# Train as a Slurm job. Submit it from the project's folder, for example:
#
#     sbatch --gpus-per-node=4 --cpus-per-task=16 --time=4:00:00 scripts/slurm.sh configs/train.yaml run.name=my-run
#
# Before its time limit, the run is saved and the job is requeued: docs/cluster.md.
#SBATCH --job-name=digits
#SBATCH --ntasks-per-node=1
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?is not set; start this with sbatch}" # Slurm runs a copy of this file, elsewhere
[ -d src/digits ] || { echo "error: $PWD: start sbatch in the project's folder" >&2; exit 2; }
python=.venv/bin/python
[ -x "$python" ] || python=python3
python=${PYTHON:-$python}
export PYTHONPATH=$PWD/src${PYTHONPATH:+:$PYTHONPATH} # from this folder, even if it was moved
export PYTHONSAFEPATH=1 # don't import modules from the current folder

# A requeued job runs this script again with the same job id, and finds its run by name.
name=slurm-${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID} runs=checkpoints settings=() # in an array, the id of its first job
[ -z "${SLURM_ARRAY_TASK_ID:-}" ] || settings=("run.seed=$SLURM_ARRAY_TASK_ID")
for argument in "$@"; do
  case $argument in
    run.name=*) name=${argument#*=} && continue ;;
    run.checkpoints=*) runs=${argument#*=} ;;
  esac
  settings+=("$argument")
done
name+=${SLURM_ARRAY_TASK_ID:+-$SLURM_ARRAY_TASK_ID}
case $name in *[{}]*) echo "error: $name: a job needs a run.name without fields in braces" >&2 && exit 2 ;; esac

again=${SLURM_RESTART_COUNT:-0}
if [ -e "$runs/$name/last.pt" ]; then
  [ "$again" = 0 ] || settings=() # the run has its config; the files may have changed since
  settings=(--resume "$name" --checkpoints "$runs" ${settings[@]+"${settings[@]}"})
else
  [ "$again" = 0 ] || [ ! -e "$runs/$name" ] || mv "$runs/$name" "$runs/$name.$again" # killed before its first checkpoint
  settings+=("run.name=$name")
fi

# One task per node, which starts one process per GPU. Slurm may signal only that task: the launcher forwards the signal and
# waits. Exit status 75 must not kill the other nodes at once, but a node that still runs a minute later hangs.
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
status=0
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
  ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} --kill-on-bad-exit=0 --wait=60 \
  "$python" -m digits.engine.launch \
  --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" --rdzv-backend c10d \
  --rdzv-endpoint "${hosts%%$'\n'*}:$((20000 + SLURM_JOB_ID % 10000))" --rdzv-id "$SLURM_JOB_ID" \
  -m digits train "${settings[@]}" || status=$?

[ "$status" != 75 ] || scontrol requeue "$SLURM_JOB_ID" # saved on a signal
exit "$status"
