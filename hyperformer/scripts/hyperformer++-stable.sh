#!/usr/bin/env bash
# Trains hyperformer++-stable on all GPUs of this node, on one, or on the CPU.
# Settings follow: bash scripts/hyperformer++-stable.sh tasks=rte seed=2
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec bash scripts/launch.sh configs/hyperformer++-stable.json "$@"
