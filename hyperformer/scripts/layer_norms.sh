#!/usr/bin/env bash
# Trains layer_norms on all GPUs of this node, on one, or on the CPU.
# Settings follow: bash scripts/layer_norms.sh tasks=rte seed=2
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec bash scripts/launch.sh configs/layer_norms.json "$@"
