#!/usr/bin/env bash
# Trains prompt_tuning on all GPUs of this node, on one, or on the CPU.
# Settings follow: bash scripts/prompt_tuning.sh tasks=rte seed=2
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec bash scripts/launch.sh configs/prompt_tuning.json "$@"
