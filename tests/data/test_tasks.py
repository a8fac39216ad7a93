"""Prompts, answers and settings of tasks are the authors'."""

from __future__ import annotations

import pytest
from reference_files import reference, reference_path
from row_examples import example

from hyperformer.data.tasks import SPLITS, TASKS, answer_length, get_task
from hyperformer.data.tasks.validate import task_fault
from hyperformer.errors import ConfigError

PREPROCESS = reference("data/preprocess.json")


@pytest.mark.parametrize("name", PREPROCESS["tasks"])
def test_prompts_and_answers_are_the_authors(name: str) -> None:
    task, theirs = get_task(name), PREPROCESS["tasks"][name]
    for prefix, key in ((True, "with_prefix"), (False, "no_prefix")):
        expected = theirs[key]["src_texts"], theirs[key]["tgt_texts"]
        assert example(task, theirs["row"], prefix=prefix) == expected
    assert task.labels == (tuple(theirs["label_list"]) if theirs["label_list"] else None)
    assert list(task.metrics) == theirs["metrics"]
    assert dict(task.splits) == theirs["split_to_data_split"]
    assert task.size == ("small" if theirs["small"] else "large" if theirs["large"] else "")
    readers = {None: "text", "string_to_int": "int", "string_to_float": "float"}
    assert task.answer == readers[theirs["post_processor"]]
    if theirs["label_list"] is None:
        assert {"max_length": task.answer_tokens, "num_beams": task.num_beams} == theirs[
            "task_specific_config"
        ]


def test_every_task_of_their_registry_is_here() -> None:
    ours = {
        "squad",
        *(f"superglue-{name}" for name in ("cb-official", "copa", "multirc", "record", "wic", "wsc")),
    }
    theirs = set(PREPROCESS["task_mapping_order"])
    assert theirs | ours == {name for name in TASKS if not name.startswith("toy-")} and not theirs & ours


@pytest.mark.parametrize("table", ["stsb_targets", "stsb_targets_float32"])
def test_stsb_scores_are_rounded_as_theirs(table: str) -> None:
    for score, text in PREPROCESS[table].items():
        assert TASKS["stsb"].answer_of(float(score)) == text


def test_label_maps() -> None:
    sick = {"premise": "a", "hypothesis": "b"}
    answers = [TASKS["sick"].answer_of(label) for label in ("ENTAILMENT", "NEUTRAL", "CONTRADICTION")]
    assert answers == [example["tgt_texts"] for example in PREPROCESS["label_maps"]["sick"]]
    theirs = example(TASKS["sick"], {"sentence_A": "a", "sentence_B": "b", "label": 1})
    assert theirs == example(TASKS["sick"], sick | {"label": "NEUTRAL"})
    assert [TASKS["scitail"].answer_of(label) for label in ("entailment", "neutral")] == ["0", "1"]
    assert [TASKS["commonsense_qa"].answer_of(label) for label in "ABCDE"] == ["0", "1", "2", "3", "4"]
    assert [TASKS["social_i_qa"].answer_of(label) for label in ("1\n", "2", 3)] == ["0", "1", "2"]


def test_todays_trec_keeps_the_authors_class_numbers() -> None:
    # NUM is 5 in today's order and 4 in the one that the authors used.
    assert example(TASKS["trec"], {"text": "how far", "coarse_label": 5}) == (
        "sentence: how far",
        "4",
    )


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_row_of_the_table_is_complete(task) -> None:
    assert task_fault(task) is None
    assert set(task.splits) == set(SPLITS)
    assert (task.labels is None) == (task.answer_tokens is not None)
    assert task.name.startswith("toy-") == (task.hub is None)


def test_data_sets_that_are_scripts_are_read_from_their_parquet_copy() -> None:
    """`datasets` 4 refuses them. Each of these copies was seen in public, under the default or the named config."""
    copies = {task.hub.path for task in TASKS.values() if task.hub and task.hub.parquet_copy}
    assert copies == {
        "CogComp/trec", "IWSLT/iwslt2017", "RobZamp/sick", "allenai/cosmos_qa", "allenai/social_i_qa",
    }  # fmt: skip


def test_answer_length_is_that_of_the_longest_label() -> None:
    from transformers import T5Tokenizer

    tokenizer = T5Tokenizer.from_pretrained(str(reference_path("e2e/spiece.model").parent))
    assert answer_length(TASKS["wmt16-en-ro"], tokenizer) == 300
    assert answer_length(TASKS["rte"], tokenizer) == len(tokenizer("0")["input_ids"])


def test_an_unknown_task_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mrpc'"):
        get_task("mprc")
