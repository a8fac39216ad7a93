"""transformers' common model tests on stock T5 and on our model. `run_common_tests.py` runs this file.

The package `transformers_tests` is unpacked by it; it is no part of the project.
"""

from __future__ import annotations

import unittest
from typing import Any

import torch
from transformers import T5Config, T5ForConditionalGeneration
from transformers_tests import test_modeling_common as common
from transformers_tests.generation.test_utils import GenerationTesterMixin

from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.t5.config import hyperformer_config
from hyperformer.settings.schema import AdapterConfig

TASKS = ("cola", "mrpc", "stsb")
SIZES = {
    "vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_decoder_layers": 2,
    "num_heads": 4, "relative_attention_num_buckets": 8, "decoder_start_token_id": 0,
}  # fmt: skip
# Their tests know by its name that a class takes labels.
common.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES = {
    **common.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "hyperformer_t5": HyperformerT5.__name__,
}


class ModelTester:
    """A small model's config and a batch for it, under the names that the common tests read."""

    batch_size = 7  # tests fill smaller batches up with numbers of their own, which are no tasks
    seq_length, encoder_seq_length, decoder_seq_length = 7, 7, 7
    hidden_size, num_hidden_layers, num_attention_heads, vocab_size = 32, 2, 4, 99
    is_training = True

    def __init__(self, adapter: str | None) -> None:
        self.adapter = adapter

    def get_config(self) -> T5Config:
        t5 = T5Config(**SIZES)
        if self.adapter is None:
            return t5
        settings = AdapterConfig(
            adapter=self.adapter, reduction_factor=4, task_embedding_dim=12, task_hidden_dim=10,
            projected_task_embedding_dim=6,
        )  # fmt: skip
        return hyperformer_config(t5, settings, TASKS)

    def prepare_config_and_inputs_for_common(self) -> tuple[T5Config, dict[str, Any]]:
        shape = (self.batch_size, self.seq_length)
        source, target = torch.randint(2, self.vocab_size, (2, *shape))
        mask = torch.ones(shape, dtype=torch.long)
        inputs = {
            "input_ids": source,
            "attention_mask": mask,
            "decoder_input_ids": target,
            "decoder_attention_mask": mask.clone(),
        }
        if self.adapter not in (None, "none"):
            inputs["task_ids"] = torch.arange(self.batch_size) % len(TASKS)
        return self.get_config(), inputs


class CommonTests(common.ModelTesterMixin, GenerationTesterMixin):
    adapter: str | None = None
    is_encoder_decoder = True
    all_model_classes: tuple[type, ...] = (HyperformerT5,)

    def setUp(self) -> None:
        self.model_tester = ModelTester(self.adapter)
        if self.adapter not in (None, "none"):
            self.additional_model_inputs = ["task_ids"]


class StockTest(CommonTests, unittest.TestCase):
    all_model_classes = (T5ForConditionalGeneration,)


class PlainTest(CommonTests, unittest.TestCase):
    adapter = "none"


class TaskTest(CommonTests, unittest.TestCase):
    adapter = "task"


class HypernetworkTest(CommonTests, unittest.TestCase):
    adapter = "hypernetwork_shared"
