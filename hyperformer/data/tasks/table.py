"""The built-in tasks: the 31 of the authors' registry, and our toy tasks.

Prompts, answers, metrics and splits are the authors'. The places on the hub are
today's: several of the authors' data sets were loading scripts, which `datasets` no
longer runs. The places are untested, since this was written without a network. A note
says what we expect: "parquet": the data set is kept as parquet files and loads as it
is; "unverified": we are less sure.
"""

from __future__ import annotations

from typing import Any

from hyperformer.data.tasks.task import Alias, Hub, Task

BINARY = ("0", "1")
THREE = ("0", "1", "2")
# There is no labelled test set: validation and test come from the validation split.
VALIDATION_AS_TEST = {"train": "train", "validation": "validation", "test": "validation"}
TEST_ONLY = {"train": "train", "validation": "test", "test": "test"}
SENTENCE_PAIR = "sentence1: {sentence1} sentence2: {sentence2}"
PREMISE_HYPOTHESIS = "premise: {premise} hypothesis: {hypothesis}"


def glue(name: str, template: str, **settings: Any) -> Task:
    """A GLUE task; settings as in Task."""
    return Task(
        name,
        template,
        **{"target": "label", "labels": BINARY, "splits": VALIDATION_AS_TEST, "metrics": ("accuracy",)}
        | settings,
        hub=Hub("nyu-mll/glue", name, note="parquet"),
    )


def super_glue(name: str, template: str, labels: tuple[str, ...], size: Any) -> Task:
    """A SuperGLUE task."""
    hub = Hub("aps/super_glue", name, note="parquet")
    return Task(
        f"superglue-{name}",
        template,
        "label",
        ("accuracy",),
        labels,
        splits=VALIDATION_AS_TEST,
        size=size,
        hub=hub,
    )


def translation(name: str, source: str, target: str, languages: str, hub: Hub) -> Task:
    """A translation task, from language code `source` to `target`."""
    return Task(
        name,
        f"{{translation[{source}]}}",
        f"translation[{target}]",
        ("bleu",),
        hub=hub,
        num_beams=4,
        answer_tokens=300,
        prefix=f"Translate {languages}",
    )


def iwslt(languages: str) -> Hub:
    """A pair of languages of IWSLT 2017."""
    note = "a script; parquet copy used by others"
    return Hub("IWSLT/iwslt2017", f"iwslt2017-{languages}", parquet_copy=True, note=note)


def toy(name: str, template: str, metrics: tuple[str, ...], **settings: Any) -> Task:
    """A toy task (:mod:`hyperformer.data.toy`)."""
    return Task(name, template, "label", metrics, **{"labels": BINARY} | settings)


ROWS = (
    glue("cola", "sentence: {sentence}", metrics=("matthews_corrcoef",), size="small", answer="int"),
    glue("sst2", "sentence: {sentence}", size="large"),
    glue("mrpc", SENTENCE_PAIR, metrics=("f1_score_with_invalid", "accuracy"), size="small", answer="int"),
    glue(
        "qqp",
        "question1: {question1} question2: {question2}",
        metrics=("f1_score_with_invalid", "accuracy"),
        size="large",
        answer="int",
    ),
    glue(
        "stsb",
        SENTENCE_PAIR,
        metrics=("pearson_corrcoef", "spearman_corrcoef"),
        # The authors' list: it bounds the answer's length only. Targets are multiples of 0.1.
        labels=tuple(f"{fifths / 5:.1f}" for fifths in range(26)),
        rounded=True,
        size="small",
        answer="float",
    ),
    glue(
        "mnli",
        # Without a colon after "hypothesis": the authors' prompt.
        "premise: {premise} hypothesis {hypothesis}",
        labels=THREE,
        splits={"train": "train", "validation": "validation_mismatched", "test": "validation_matched"},
    ),
    glue("qnli", "question: {question} sentence: {sentence}", size="large"),
    glue("rte", SENTENCE_PAIR, size="small"),
    glue("wnli", SENTENCE_PAIR, size="small"),
    super_glue("boolq", "question: {question} passage: {passage}", BINARY, "small"),
    super_glue("cb", PREMISE_HYPOTHESIS, THREE, "small"),
    super_glue("rte", PREMISE_HYPOTHESIS, BINARY, ""),
    Task(
        "paws",
        SENTENCE_PAIR,
        "label",
        ("accuracy",),
        BINARY,
        hub=Hub("google-research-datasets/paws", "labeled_final", note="parquet"),
    ),
    Task(
        "imdb",
        "{text}",
        "label",
        ("accuracy",),
        BINARY,
        splits=TEST_ONLY,
        size="small",
        hub=Hub("stanfordnlp/imdb", note="parquet"),
    ),
    Task(
        "snli",
        PREMISE_HYPOTHESIS,
        "label",
        ("accuracy",),
        THREE,
        unlabelled_rows=True,
        hub=Hub("stanfordnlp/snli", note="parquet; rows without agreement have label -1"),
    ),
    Task(
        "scitail",
        SENTENCE_PAIR,
        "gold_label",
        ("accuracy",),
        BINARY,
        label_map={"entailment": "0", "neutral": "1"},
        hub=Hub("allenai/scitail", "snli_format", note="parquet"),
    ),
    Task(
        "trec",
        "sentence: {text}",
        "label-coarse",
        ("accuracy",),
        ("0", "1", "2", "3", "4", "5"),
        splits=TEST_ONLY,
        size="small",
        hub=Hub("CogComp/trec", parquet_copy=True, note="a script; parquet copy unverified"),
        # Today's copy numbers the classes in another order: ABBR, ENTY, DESC, HUM, LOC, NUM.
        aliases=(
            Alias(
                "label-coarse", "coarse_label", {"0": "2", "1": "1", "2": "0", "3": "3", "4": "5", "5": "4"}
            ),
        ),
    ),
    Task(
        "yelp_polarity",
        "sentence: {text}",
        "label",
        ("accuracy",),
        BINARY,
        splits=TEST_ONLY,
        size="large",
        hub=Hub("fancyzhx/yelp_polarity", note="parquet"),
    ),
    translation("wmt16-ro-en", "ro", "en", "Romanian to English", Hub("wmt/wmt16", "ro-en", note="parquet")),
    # The authors' task goes from English to Hindi, whatever its name says.
    translation("wmt14-hi-en", "en", "hi", "English to Hindi", Hub("wmt/wmt14", "hi-en", note="parquet")),
    translation("wmt16-en-ro", "en", "ro", "English to Romanian", Hub("wmt/wmt16", "ro-en", note="parquet")),
    translation("wmt16-en-cs", "en", "cs", "English to Czech", Hub("wmt/wmt16", "cs-en", note="parquet")),
    translation("wmt16-en-fi", "en", "fi", "English to Finnish", Hub("wmt/wmt16", "fi-en", note="parquet")),
    translation("iwslt2017-ro-nl", "ro", "nl", "Romanian to Dutch", iwslt("ro-nl")),
    translation("iwslt2017-en-nl", "en", "nl", "English to Dutch", iwslt("en-nl")),
    Task(
        "social_i_qa",
        "question: {question} context: {context} answerA: {answerA} answerB: {answerB} answerC: {answerC}",
        "label",
        ("accuracy",),
        THREE,
        label_map={"1": "0", "2": "1", "3": "2"},
        splits=VALIDATION_AS_TEST,
        size="large",
        hub=Hub(
            "allenai/social_i_qa", "default", parquet_copy=True, note="a script; parquet copy used by others"
        ),
    ),
    Task(
        "cosmos_qa",
        "question: {question} context: {context} answer0: {answer0} answer1: {answer1}"
        " answer2: {answer2} answer3: {answer3}",
        "label",
        ("accuracy",),
        ("0", "1", "2", "3"),
        splits=VALIDATION_AS_TEST,
        size="large",
        hub=Hub("allenai/cosmos_qa", parquet_copy=True, note="a script; parquet copy unverified"),
    ),
    Task(
        "winogrande",
        "sentence: {sentence} option1: {option1} option2: {option2}",
        "answer",
        ("accuracy",),
        ("1", "2"),
        splits=VALIDATION_AS_TEST,
        size="large",
        hub=Hub("allenai/winogrande", "winogrande_l", note="parquet"),
    ),
    Task(
        "hellaswag",
        "ctx: {ctx} ending0: {endings[0]} ending1: {endings[1]} ending2: {endings[2]} ending3: {endings[3]}",
        "label",
        ("accuracy",),
        ("0", "1", "2", "3"),
        splits=VALIDATION_AS_TEST,
        size="large",
        hub=Hub("Rowan/hellaswag", note="parquet"),
    ),
    Task(
        "commonsense_qa",
        "question: {question} "
        + " ".join(f"{{choices[label][{i}]}}: {{choices[text][{i}]}}" for i in range(5)),
        "answerKey",
        ("accuracy",),
        ("0", "1", "2", "3", "4"),
        label_map={"A": "0", "B": "1", "C": "2", "D": "3", "E": "4"},
        splits=VALIDATION_AS_TEST,
        size="small",
        hub=Hub("tau/commonsense_qa", note="parquet"),
    ),
    Task(
        "sick",
        PREMISE_HYPOTHESIS,
        "label",
        ("accuracy",),
        THREE,
        label_map={"ENTAILMENT": "0", "NEUTRAL": "1", "CONTRADICTION": "2"},
        size="small",
        hub=Hub("RobZamp/sick", parquet_copy=True, note="a script; parquet copy used by others"),
        aliases=(Alias("premise", "sentence_A"), Alias("hypothesis", "sentence_B")),
    ),
    toy("toy-sentiment", "sentence: {sentence}", ("accuracy",)),
    toy("toy-entailment", PREMISE_HYPOTHESIS, ("accuracy",)),
    toy("toy-paraphrase", SENTENCE_PAIR, ("f1_score_with_invalid", "accuracy"), answer="int"),
    toy("toy-acceptability", "sentence: {sentence}", ("matthews_corrcoef",), answer="int"),
    toy(
        "toy-similarity",
        SENTENCE_PAIR,
        ("pearson_corrcoef", "spearman_corrcoef"),
        labels=tuple(f"{fifths / 5:.1f}" for fifths in range(26)),
        rounded=True,
        answer="float",
    ),
)
