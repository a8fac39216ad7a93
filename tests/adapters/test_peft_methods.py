"""The methods that peft makes: what peft alone computes from our folders, and we from its; and wrong uses."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch
from places import ROOT
from safetensors.torch import load_file
from trained_models import TASKS, batch, make_adapter, make_base, settings
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hyperformer.adapters.build import build_model
from hyperformer.adapters.trained_model import load_trained
from hyperformer.commands.export import export_task
from hyperformer.commands.predict import Predictor
from hyperformer.data.tasks import answer_length, get_task
from hyperformer.errors import CheckpointError, ConfigError
from hyperformer.settings import extras
from hyperformer.settings.build import make_config
from hyperformer.settings.methods import METHODS
from hyperformer.training.decoding.rank_classification import label_scores

peft = pytest.importorskip("peft", reason="it is an extra")
KINDS = [kind for kind, facts in METHODS.items() if facts.extra == "peft"]
SOURCE = ("input_ids", "attention_mask")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    # Heads that are together wider than T5.
    return make_base(tmp_path_factory.mktemp("t5"), d_kv=12)


@pytest.fixture(scope="module")
def rows(base: str) -> dict[str, torch.Tensor]:
    found = batch(AutoModelForSeq2SeqLM.from_pretrained(base).config.vocab_size)
    found["attention_mask"][0, 4:] = 0
    return found


def alone(base: str, folder: Path) -> Any:
    """What a user without this package has."""
    return peft.PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(base), str(folder)).eval()


def answers(model: Any, rows: dict[str, torch.Tensor], beams: int, **more: Any) -> torch.Tensor:
    source = {name: rows[name] for name in SOURCE}
    return model.generate(**source, max_length=7, min_length=7, num_beams=beams, do_sample=False, **more)


def sum_of(folder: Path) -> int:
    """How many parameters peft's file has."""
    return sum(value.numel() for value in load_file(folder / "out" / "adapter_model.safetensors").values())


@pytest.mark.parametrize("kind", KINDS)
def test_what_we_trained_is_the_same_in_peft_alone(
    kind: str, base: str, rows: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    trained = make_adapter(tmp_path / "ours", base, kind)
    ours = load_trained(tmp_path / "ours").model
    logits = ours(**rows, task="mrpc").logits
    assert torch.equal(logits, trained(**rows, task="mrpc").logits)
    assert not torch.allclose(logits, ours(**rows, task="cola").logits, atol=1e-3)
    export_task(tmp_path / "ours", "mrpc", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"- tasks: mrpc\n- parameters in these files: {sum_of(tmp_path):,}" in card
    theirs, read = alone(base, tmp_path / "out"), load_trained(tmp_path / "out")
    assert torch.equal(theirs(**rows).logits, logits)
    assert torch.equal(read.model(**rows).logits, logits)
    told = answers(ours, rows, 3, task="mrpc")
    assert torch.equal(told, answers(theirs, rows, 3))
    assert torch.equal(told, answers(ours, rows, 3, task="mrpc", use_cache=False))
    assert (read.model.config.tasks, read.model.config.task_prefix) == (["mrpc"], False)


@pytest.mark.parametrize("kind", ["lora", "prefix_tuning", "prompt_tuning"])
def test_labels_are_ranked_as_whole_forwards_score_them(
    kind: str, base: str, rows: dict[str, torch.Tensor]
) -> None:
    torch.manual_seed(0)
    model = build_model(settings(base, kind, adapters=["a", "b", "a"])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3 * parameter.requires_grad)
    tokenizer, task = AutoTokenizer.from_pretrained(base), get_task("cola")
    source = [rows[name] for name in SOURCE]
    scores = label_scores(model, task, tokenizer, *source)
    for number, label in enumerate(task.labels or ()):
        wanted = torch.tensor(tokenizer([label] * len(scores))["input_ids"])
        logits = model(input_ids=source[0], attention_mask=source[1], labels=wanted, task="cola").logits
        chosen = logits.log_softmax(-1).gather(-1, wanted.unsqueeze(-1)).sum((1, 2))
        torch.testing.assert_close(scores[:, number], chosen, atol=1e-4, rtol=1e-5)
    by_row = model(**rows, task_ids=["cola"] * 4).logits
    assert torch.equal(by_row, model(**rows, task="stsb").logits)  # they share an adapter
    assert not torch.allclose(by_row, model(**rows, task="mrpc").logits, atol=1e-3)
    with pytest.raises(ConfigError, match="all rows of a batch must be of one task"):
        model(**rows, task_ids=["cola", "mrpc", "cola", "cola"])
    with pytest.raises(ConfigError, match="say for which task"):
        model(**rows)


def test_only_the_adapters_train_and_another_task_leaves_all_trainable(
    base: str, rows: dict[str, torch.Tensor]
) -> None:
    model = build_model(settings(base, "lora"))
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert all(flag == ("lora_" in name) for name, flag in flags.items())
    model(**rows, task="stsb").logits.sum().backward()
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == flags
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved and all(".adapter2." in name for name in moved)


def test_in_the_number_format_of_an_engine(base: str, rows: dict[str, torch.Tensor]) -> None:
    """It casts the parameters, and leaves buffers as they are."""
    for kind in KINDS:
        model = build_model(settings(base, kind))
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16()
        assert model(**rows, task="cola", use_cache=False).logits.dtype == torch.bfloat16, kind


USERS = {
    "lora": lambda: peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM", r=3, target_modules=["q", "wo"], use_rslora=True, init_lora_weights=False
    ),
    "prompts": lambda: peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3),
}


def users_own(folder: Path, base: str, config: Any) -> Any:
    """A folder that peft wrote for a user."""
    torch.manual_seed(5)
    model = peft.get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(base), config).eval()
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return model


@pytest.mark.parametrize("kind", USERS)
def test_what_a_user_trained_with_peft_answers_here(
    kind: str, base: str, rows: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    theirs = users_own(tmp_path / "user", base, USERS[kind]())
    trained = load_trained(tmp_path / "user")
    assert torch.equal(trained.model(**rows).logits, theirs(**rows).logits)
    assert not torch.allclose(
        trained.model(**rows).logits, AutoModelForSeq2SeqLM.from_pretrained(base)(**rows).logits, atol=1e-4
    )
    predictor = Predictor(trained, "cola", decode="generate")
    assert predictor.prefix  # as for a T5 without adapters of ours
    tokens = predictor.tokenizer(["cola sentence: It rains."], return_tensors="pt")
    length = answer_length(predictor.task, predictor.tokenizer)
    told = theirs.generate(**tokens, max_length=length, num_beams=predictor.task.num_beams, do_sample=False)
    text = predictor.tokenizer.decode(told[0], skip_special_tokens=True).strip()
    assert predictor.answers(["cola sentence: It rains."]) == [text]


def edit(folder: Path, **values: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_of_peft_that_does_not_fit_is_refused(base: str, tmp_path: Path) -> None:
    user = tmp_path / "user"
    users_own(user, base, USERS["lora"]())

    def refused(told: str, where: str | None = None) -> None:
        with pytest.raises(CheckpointError, match=re.escape(told)):
            load_trained(user, where)

    wider = make_base(tmp_path / "t5", d_model=48)
    edit(user, base_model_name_or_path=wider)
    refused("does not fit the T5")
    refused("has another name", make_base(tmp_path / "other"))
    edit(user, base_model_name_or_path=None)
    refused("give it by --base")
    load_trained(user, base)
    edit(user, base_model_name_or_path=base, peft_type="LOHA")
    refused("its type is 'LOHA'; read here are LORA, IA3")
    edit(user, peft_type="LORA", task_type="CAUSAL_LM")
    refused("its task_type is 'CAUSAL_LM'")
    edit(user, task_type="SEQ_2_SEQ_LM", target_modules=["q"])
    refused("of its weights and those that the T5 has a place for differ")
    edit(user, target_modules=["q", "wo"], r=2)
    refused("does not fit the T5")
    (user / "adapter_model.safetensors").rename(user / "adapter_model.bin")
    refused("adapter_model.safetensors is missing")


def test_our_own_folder_knows_the_weights_of_its_base(base: str, tmp_path: Path) -> None:
    make_adapter(tmp_path / "run", base, "ia3")
    export_task(tmp_path / "run", "cola", tmp_path / "out")
    with pytest.raises(CheckpointError, match="has other weights"):
        load_trained(tmp_path / "out", make_base(tmp_path / Path(base).name, seed=1, d_kv=12))
    with pytest.raises(ConfigError, match="did you mean 'cola'"):
        export_task(tmp_path / "run", "colaa", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("kind", "wrong", "told"),
    [
        ("lora", {"task_embedding_dim": 3}, "does not use it; its options are lora_rank"),
        ("p_tuning", {"lora_rank": 3}, "does not use it; its options are prompt_hidden_dim"),
        ("lora", {"target_modules": ["q", "x"]}, "'x' is none of T5's matrices: q, k"),
        ("lora", {"target_modules": []}, "must name one matrix at least, and each once"),
        ("ia3", {"target_modules": ["k", "k"]}, "must name one matrix at least, and each once"),
        ("vera", {"unfreeze_layer_norms": True}, "nothing else may train"),
        ("ia3", {"zero_stage": 3}, "have no gradient in a step; write 2 or less"),
        ("dora", {"init_from": "/somewhere"}, "cannot start from another"),
        ("prefix_tuning", {"gradient_checkpointing": True}, "prefix is in the cache"),
        ("lora", {"adapters": ["a"]}, "one name for each of the 3 tasks"),
        ("finetune", {}, "must be one of none, task"),
    ],
)
def test_wrong_settings_are_refused(kind: str, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_config({"tasks": TASKS, "adapter": kind, **wrong})


def test_a_matrix_that_a_t5_lacks_is_refused(base: str) -> None:
    with pytest.raises(ConfigError, match="this T5 has no matrix 'wi_0'; it has k, lm_head, o, q, v, wi, wo"):
        build_model(settings(base, "lora", target_modules=["q", "wi_0"]))


@pytest.mark.parametrize(
    ("found", "told"), [(None, "is not installed here"), ("0.20.0", "version 0.20.0 is")]
)
def test_without_peft_the_command_is_told(
    found: str | None, told: str, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(_name: str) -> str:
        if found is None:
            raise PackageNotFoundError
        return found

    users_own(tmp_path, base, USERS["prompts"]())
    monkeypatch.setattr(extras, "version", version)
    whole = rf"needs the package peft >=0\.21.*{re.escape(told)}.*pip install 'hyperformer\[peft\]'"
    with pytest.raises(ConfigError, match=whole):
        build_model(settings(base, "lora"))
    with pytest.raises(CheckpointError, match=whole):
        load_trained(tmp_path)
    extras.check_installed("task")


def test_setup_asks_for_the_versions_that_are_checked() -> None:
    asked = set(re.findall(r'"peft(.*)"', (ROOT / "setup.py").read_text())) - {
        '": ["peft' + extras.VERSIONS["peft"]
    }
    assert asked == {extras.VERSIONS["peft"]}


def test_the_random_matrices_of_vera_are_those_of_every_machine(base: str) -> None:
    """They are drawn again when an adapter is loaded. If torch draws others, older adapters would be silently wrong."""
    layer = build_model(settings(base, "vera")).encoder.block[0].layer[0].SelfAttention.q
    assert layer.vera_A["adapter0"].shape == (4, 32)
    expected = torch.tensor([-0.0032418882, 0.2322868854, -0.3563889861])
    torch.testing.assert_close(layer.vera_A["adapter0"][0, :3], expected, atol=1e-6, rtol=0)
