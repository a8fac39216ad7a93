#!/usr/bin/env bash
# Trains compacter on all GPUs of this node, on one, or on the CPU.
# Settings follow: bash scripts/compacter.sh tasks=rte seed=2
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec bash scripts/launch.sh configs/compacter.json "$@"
