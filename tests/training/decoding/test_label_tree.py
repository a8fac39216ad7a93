"""Labels as a tree: each distinct prefix is read once, and scores as it would in a target of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from places import FIXTURES
from transformers import T5Tokenizer

from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.t5.config import HyperformerConfig
from hyperformer.data.collate import IGNORED
from hyperformer.data.tasks import TASKS
from hyperformer.training.decoding.label_tree import label_trees
from hyperformer.training.decoding.rank_classification import label_scores

# A label that begins another one, not beside it; several of many tokens that begin alike.
NESTED = replace(TASKS["cola"], labels=("0 0 1", "1", "0", "not acceptable", "0 0", "not entailment"))
IDS = ((5, 6, 7, 1), (5, 1), (8, 1), (5, 6, 1), (1,))


@pytest.mark.parametrize(("most", "nodes"), [(0, [4, 2, 2, 3, 1]), (3, [4, 3, 3]), (4, [4, 4]), (128, [5])])
def test_each_distinct_prefix_is_one_node(most: int, nodes: list[int]) -> None:
    """Also in several trees of at most `most` nodes, if no label by itself has more."""
    trees = label_trees(IDS, 0, most)
    assert [len(tree.tokens) for tree in trees] == nodes
    found = []
    for tree in trees:
        for label, parents in zip(tree.labels, tree.parents, strict=True):
            ids = label[label != IGNORED].tolist()
            path = parents[: len(ids)]
            found.append(tuple(ids))
            assert tree.tokens[path].tolist() == [0, *ids[:-1]] and path.tolist() == sorted(path.tolist())
            for depth, node in enumerate(path):
                seen = tree.distances[node]
                assert seen[path[: depth + 1]].tolist() == [*range(depth, -1, -1)]
                assert (seen >= 0).sum() == depth + 1
    assert tuple(found) == IDS


def small_model(per_layer: bool, attention: str) -> HyperformerT5:
    """A T5 whose scores depend much on distances; `per_layer`: as umT5, with a position bias in each layer."""
    torch.manual_seed(0)
    config = HyperformerConfig(
        vocab_size=140, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, relative_bias_per_layer=per_layer,
        tasks=["cola"], decoder_start_token_id=0, adapter_settings={"adapter": "none"},
    )  # fmt: skip
    model = HyperformerT5(config).eval()
    for name, parameter in model.named_parameters():
        if "relative_attention_bias" in name:
            torch.nn.init.normal_(parameter, std=5)
    model.set_attn_implementation(attention)
    return model


# In half precision sdpa has other kernels with a mask than without, so a single label differs as much from T5's own.
@pytest.mark.parametrize(
    ("attention", "precision", "tolerance"),
    [("sdpa", torch.float32, 1e-5), ("eager", torch.float32, 1e-5),
     ("eager", torch.bfloat16, 0.02), ("eager", torch.float16, 0.02)],
)  # fmt: skip
@pytest.mark.parametrize("per_layer", [False, True], ids=["t5", "umt5"])
@torch.no_grad()
def test_scores_are_those_of_t5(
    per_layer: bool, attention: str, precision: torch.dtype, tolerance: float
) -> None:
    """Of labels of which one begins another, and of those with a common beginning."""
    tokenizer = T5Tokenizer.from_pretrained(str(FIXTURES / "reference" / "e2e"))
    model = small_model(per_layer, attention).to(precision)
    source, mask = torch.tensor([[5, 6, 7, 1], [9, 1, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    scores = label_scores(model, NESTED, tokenizer, source, mask)
    for number, label in enumerate(NESTED.labels or ()):
        ids = torch.tensor(tokenizer([label] * 2)["input_ids"])
        chosen = model(input_ids=source, attention_mask=mask, labels=ids).logits.float().log_softmax(-1)
        expected = chosen.gather(-1, ids.unsqueeze(-1)).sum(dim=(1, 2))
        torch.testing.assert_close(scores[:, number], expected, atol=tolerance, rtol=1e-6)
