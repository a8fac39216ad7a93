"""With this folder on PYTHONPATH, a job trains nothing: ``hyperformer.run`` is the stand-in below.

Python imports a module of this name when it starts. The stand-in keeps the
contract of the real run (files, signals, resuming) and takes no time:

- step n of `max_steps` takes `weight_decay` seconds;
- the step reached is kept in checkpoints/step, and a new start goes on from it;
- it is evaluated every `eval_steps`: 50 + learning_rate + seed % 10 percent, less one for each step that is left;
- seed 13 fails, seed 14 dies without a word, seed 15 fails once and then works;
- seed 81 runs out of GPU memory until its micro-batch is a quarter, 82 loses its ranks twice,
  83 hangs always, 84 diverges once, 85 is killed once, 86 stops at a full disk always,
  87 takes more memory than there is.
"""

import dataclasses
import hashlib
import json
import os
import signal
import sys
import time
import types

fake = types.ModuleType("hyperformer.run")


class OutOfMemoryError(RuntimeError):
    """As torch's, which these tests do not import."""


def fail(config, folder, attempts):
    """The faults that a real run meets, in the real run's words."""
    from hyperformer import errors
    from hyperformer.run_files.recovery import read_recovery

    if config.seed == 81 and read_recovery(folder).micro_batch_parts < 4:
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if config.seed == 82 and attempts <= 2:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:12345")
    if config.seed == 83:
        os._exit(errors.HANG_EXIT)
    if config.seed == 84 and attempts == 1:
        raise errors.Diverged("the loss is nan at step 2")
    if config.seed == 85 and attempts == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if config.seed == 87:
        hoard = [bytearray(b"x" * (100 << 20)) for _ in range(40)]
        time.sleep(20)
        raise RuntimeError(f"nobody minded {len(hoard)} times 100 MB")
    if config.seed == 86:
        raise errors.DiskFull("checkpoint of step 2 could not be written: No space left on device")


def run(config, deadline=None, pause_at=None):
    from hyperformer.errors import DataError, Interrupted, Paused
    from hyperformer.files import write_json
    from hyperformer.run_files.run_folder import RunFolder, RunState
    from hyperformer.settings.signature import signature

    stop = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: stop.append(number))
    folder = RunFolder(config.output_dir)
    folder.claim(config)
    folder.checkpoints.mkdir(exist_ok=True)
    kept = folder.checkpoints / "step"
    start = int(kept.read_text()) if kept.exists() else 0
    steps = config.training.max_steps
    threads, gpus = (os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"))
    print(f"start at step {start}; threads {threads}, gpus {gpus}", flush=True)
    if config.seed == 13 or (config.seed == 15 and not kept.exists()):
        kept.write_text("0")
        raise DataError("row 7 has no label")
    if config.seed == 14:
        print("about to be killed", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    attempts = len(list(folder.path.glob("attempts/*")))
    for step in range(start, steps):
        if step == 2:
            fail(config, folder, attempts)
        if deadline and time.time() > deadline - 10:
            stop.append(signal.SIGUSR2)
        if stop:
            folder.write_state(RunState("stopped", step, steps))
            raise Interrupted(f"stopped at step {step}", stop[0])
        time.sleep(config.training.weight_decay)
        kept.write_text(str(step + 1))
        if (step + 1) % config.training.eval_steps == 0:
            score = 50 + config.training.learning_rate + config.seed % 10 - (steps - step - 1)
            line = {"step": step + 1, "split": "validation", "average": score}
            with folder.metrics.open("a") as stream:
                print(json.dumps(line | {f"{task}/acc": score for task in config.data.tasks}), file=stream)
        folder.write_state(
            RunState("training", step + 1, steps, loss=1.0, best_metric=50.0, seconds_left=1.0)
        )
        if pause_at is not None and step + 1 >= pause_at:
            folder.write_state(RunState("paused", step + 1, steps))
            raise Paused(f"paused after step {step + 1}")
    folder.adapter.mkdir(exist_ok=True)
    record = {"adapter_settings": dataclasses.asdict(config.adapter), "tasks": list(config.data.tasks)}
    record |= {"base_fingerprint": "x", "base_sizes": {}}
    record["base_model_name_or_path"] = config.model.model_name_or_path
    record["weights_sha256"] = hashlib.sha256(signature(config).encode()).hexdigest()
    write_json(folder.adapter / "hyperformer_adapter.json", record)
    (folder.adapter / "hyperformer_adapter.safetensors").write_text(signature(config))
    if folder.metrics.exists():
        score = 50.0 + config.training.learning_rate + config.seed % 10
    else:
        score = 50.0 + (config.seed if config.seed < 45 else config.seed % 10)  # a percentage
    metrics = {task: {"acc": score + index} for index, task in enumerate(config.data.tasks)}
    average = sum(values["acc"] for values in metrics.values()) / len(metrics)
    write_json(
        folder.result,
        {
            "variant": config.variant, "tasks": list(config.data.tasks), "seed": config.seed,
            "signature": signature(config), "validation": metrics, "test": metrics,
            "validation_average": average, "test_average": average, "best_step": steps,
            "parameters": {"total": 1000, "trained": 100, "trained_percent_per_task": 10.0},
            "seconds": {"train": 1.0, "evaluate": 0.5}, "started_at_step": start,
        },
    )  # fmt: skip


fake.run = run
sys.modules["hyperformer.run"] = fake
# What is imported ahead of a real run takes seconds.
sys.modules |= {name: types.ModuleType(name) for name in ("deepspeed", "torch.utils.tensorboard")}
