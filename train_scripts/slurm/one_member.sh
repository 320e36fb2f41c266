#!/usr/bin/env bash
# Train one member: bash train_scripts/slurm/one_member.sh 350M-F DATA RUNS [options of pretrain.py]
# It submits itself with the GPUs that suit the member's size; `sbatch --gpus-per-node=N` takes another number.
# Submitted again, it goes on from the newest saved state; so does Slurm after a time limit.
#SBATCH --job-name=curr-ab
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=2-00:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
if [[ -z ${SLURM_JOB_ID:-} ]]; then
    gpus=$(curr-ab models --json | python3 -c "
import json, sys
found = [one['num_gpus'] for one in json.load(sys.stdin) if one['name'] == sys.argv[1].upper()]
print(*found or sys.exit(f'{sys.argv[1]} is no member: see curr-ab models'))" "$1")
    exec sbatch --job-name "curr-ab-$1" --gpus-per-node "$gpus" "$0" "$@"
fi
member=$1 data=$2 runs=$3
shift 3
cd "${SLURM_SUBMIT_DIR:-.}"

gpus=${SLURM_GPUS_ON_NODE:-1}
nodes=${SLURM_NNODES:-1}
launch=(accelerate launch --num_machines "$nodes" --num_processes $((gpus * nodes)))
if ((nodes > 1)); then
    head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    launch+=(--config_file train_scripts/accelerate/fsdp2_multi_node.yaml --main_process_ip "$head_node")
    launch+=(--machine_rank "\$SLURM_NODEID")
elif ((gpus > 1)); then
    launch+=(--config_file train_scripts/accelerate/ddp.yaml)
else
    launch=(python) # with one process accelerate does not pass signals on
fi

# Slurm signals the script five minutes before the end (B:TERM@300); the trainer saves its state and stops.
printf -v options '%q ' "$member" --data "$data" --out "$runs/$member" "$@"
srun bash -c "exec ${launch[*]} train_scripts/pretrain.py $options" &
trap 'kill -TERM $!; wait $! || true; scontrol requeue "$SLURM_JOB_ID"' TERM
wait $!
