#!/usr/bin/env bash
# Train all 15 members, a job each: bash train_scripts/slurm/grid.sh DATA RUNS [options of pretrain.py]
# Each gets the GPUs that suit its size, as one_member.sh does.
set -euo pipefail
data=$1 runs=$2
shift 2
members=$(curr-ab models --json | python3 -c "import json, sys; print(*(one['name'] for one in json.load(sys.stdin)))")
for member in $members; do
    bash "$(dirname "$0")/one_member.sh" "$member" "$data" "$runs" "$@"
done
