#!/usr/bin/env bash
# Starts a config with one process a GPU; one process where there is one GPU, or none.
# Each process trains with a DeepSpeed engine. torchrun starts them, since on Ctrl-C it lets
# them save; deepspeed's own launcher kills them.
set -euo pipefail
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
if [ "$gpus" -gt 1 ]; then
    exec torchrun --standalone --nproc-per-node "$gpus" finetune_t5_trainer.py "$@"
fi
exec python finetune_t5_trainer.py "$@"
