#!/usr/bin/env bash
# Trains finetune_single_task on all GPUs of this node, on one, or on the CPU.
# Settings follow: bash scripts/finetune_single_task.sh tasks=rte seed=2
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec bash scripts/launch.sh configs/finetune_single_task.json "$@"
