#!/usr/bin/env bash
# Trains pfeiffer on all GPUs of this node, on one, or on the CPU.
# Settings follow: bash scripts/pfeiffer.sh tasks=rte seed=2
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec bash scripts/launch.sh configs/pfeiffer.json "$@"
