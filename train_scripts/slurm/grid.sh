#!/usr/bin/env bash
# Train all 15 members, one task of the array each: sbatch train_scripts/slurm/grid.sh DATA RUNS [options]
#SBATCH --job-name=curr-ab-grid
#SBATCH --array=0-14
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=2-00:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --output=%x-%A-%a.log
set -euo pipefail
data=$1 runs=$2
shift 2
cd "${SLURM_SUBMIT_DIR:-.}"
mapfile -t members < <(curr-ab models --json | python3 -c "import json, sys; print(*(m['name'] for m in json.load(sys.stdin)), sep='\n')")
exec bash train_scripts/slurm/one_member.sh "${members[$SLURM_ARRAY_TASK_ID]}" "$data" "$runs" "$@"
