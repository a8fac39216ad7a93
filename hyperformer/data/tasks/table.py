"""The built-in tasks: the 31 of the authors' registry, the rest of SuperGLUE, SQuAD, and our toy tasks.

Prompts, answers, metrics and splits are the authors'; those of the tasks that they do not have are T5's
(Raffel et al. 2020, appendix D, and their library `t5`). The places on the hub are
today's: five of the authors' data sets are loading scripts, which `datasets` 4 no longer runs, so their parquet
copy is read. No row was loaded from the hub where this was written: docs/data.md says for each place what of it
was compared with public listings, cards and scripts.
"""

from __future__ import annotations

from typing import Any

from hyperformer.data.tasks.task import Alias, Hub, Task

BINARY = ("0", "1")
THREE = ("0", "1", "2")
FOUR = ("0", "1", "2", "3")
SIX = (*FOUR, "4", "5")
SCORES = tuple(f"{fifths / 5:.1f}" for fifths in range(26))
# There is no labelled test set: validation and test come from the validation split.
VALIDATION_AS_TEST = {"train": "train", "validation": "validation", "test": "validation"}
TEST_ONLY = {"train": "train", "validation": "test", "test": "test"}
SENTENCE_PAIR = "sentence1: {sentence1} sentence2: {sentence2}"
PREMISE_HYPOTHESIS = "premise: {premise} hypothesis: {hypothesis}"


def accuracy(name: str, template: str, labels: tuple[str, ...], hub: Hub | None, **settings: Any) -> Task:
    """A task with a few answers, in the column `label` and scored by accuracy unless `settings` say otherwise."""
    common: dict[str, Any] = {"target": "label", "metrics": ("accuracy",)}
    return Task(name, template, **common | settings, labels=labels, hub=hub)


def glue(name: str, template: str, labels: tuple[str, ...] = BINARY, **settings: Any) -> Task:
    """A GLUE task."""
    hub = Hub("nyu-mll/glue", name)
    return accuracy(name, template, labels, hub, **{"splits": VALIDATION_AS_TEST} | settings)


def super_glue(name: str, template: str, labels: tuple[str, ...], size: Any) -> Task:
    """A SuperGLUE task."""
    hub = Hub("aps/super_glue", name)
    return accuracy(f"superglue-{name}", template, labels, hub, splits=VALIDATION_AS_TEST, size=size)


def t5_super_glue(
    name: str, template: str, labels: tuple[str, ...], hub_name: str = "", **settings: Any
) -> Task:
    """A SuperGLUE task as T5 has it: labels in words, in the order of the hub's numbers."""
    common: dict[str, Any] = {"splits": VALIDATION_AS_TEST, "size": "small", "prefix": name}
    common["label_map"] = {str(number): label for number, label in enumerate(labels)}
    hub = Hub("aps/super_glue", hub_name or name)
    return accuracy(f"superglue-{name}", template, labels, hub, **common | settings)


def translation(name: str, source: str, target: str, languages: str, hub: Hub) -> Task:
    """A translation task, from language code `source` to `target`."""
    return Task(
        name, f"{{translation[{source}]}}", f"translation[{target}]", ("bleu",), hub=hub, num_beams=4,
        answer_tokens=300, prefix=f"Translate {languages}",
    )  # fmt: skip


def iwslt(languages: str) -> Hub:
    """A pair of languages of IWSLT 2017."""
    return Hub("IWSLT/iwslt2017", f"iwslt2017-{languages}", parquet_copy=True)


def toy(name: str, template: str, labels: tuple[str, ...] = BINARY, **settings: Any) -> Task:
    """A toy task (:mod:`hyperformer.data.toy`)."""
    return accuracy(name, template, labels, None, **settings)


ROWS = (
    glue("cola", "sentence: {sentence}", metrics=("matthews_corrcoef",), size="small", answer="int"),
    glue("sst2", "sentence: {sentence}", size="large"),
    glue("mrpc", SENTENCE_PAIR, metrics=("f1_score_with_invalid", "accuracy"), size="small", answer="int"),
    glue("qqp", "question1: {question1} question2: {question2}",
         metrics=("f1_score_with_invalid", "accuracy"), size="large", answer="int"),
    # The authors' list of scores: it bounds the answer's length only. Targets are multiples of 0.1.
    glue("stsb", SENTENCE_PAIR, SCORES, metrics=("pearson_corrcoef", "spearman_corrcoef"), rounded=True, size="small",
         answer="float"),
    # Without a colon after "hypothesis": the authors' prompt.
    glue("mnli", "premise: {premise} hypothesis {hypothesis}", THREE,
         splits={"train": "train", "validation": "validation_mismatched", "test": "validation_matched"}),
    glue("qnli", "question: {question} sentence: {sentence}", size="large"),
    glue("rte", SENTENCE_PAIR, size="small"),
    glue("wnli", SENTENCE_PAIR, size="small"),
    super_glue("boolq", "question: {question} passage: {passage}", BINARY, "small"),
    super_glue("cb", PREMISE_HYPOTHESIS, THREE, "small"),
    super_glue("rte", PREMISE_HYPOTHESIS, BINARY, ""),
    # The authors score cb by its accuracy alone; SuperGLUE's score is accuracy and F1.
    t5_super_glue("cb-official", "hypothesis: {hypothesis} premise: {premise}",
                  ("entailment", "contradiction", "neutral"), hub_name="cb", prefix="cb",
                  metrics=("macro_f1_all", "accuracy")),
    t5_super_glue("copa", "choice1: {choice1} choice2: {choice2} premise: {premise} question: {question}",
                  ("choice1", "choice2")),
    t5_super_glue("wic", "sentence1: {sentence1} sentence2: {sentence2} word: {word}", ("False", "True")),
    t5_super_glue("multirc", "question: {question} answer: {answer} paragraph: {paragraph}", ("False", "True"),
                  metrics=("multirc",), group="{idx[paragraph]}-{idx[question]}", recipe="multirc", size="large"),
    Task("superglue-wsc", "{text}", "span1_text", ("referent",), hub=Hub("aps/super_glue", "wsc.fixed"),
         accepted="label", recipe="wsc", prefix="wsc:", splits=VALIDATION_AS_TEST, size="small", answer_tokens=32),
    Task("superglue-record", "query: {query} entities: {entities} passage: {passage}", "answers[0]", ("squad",),
         hub=Hub("aps/super_glue", "record"), accepted="answers", recipe="record", prefix="record",
         splits=VALIDATION_AS_TEST, size="large", answer_tokens=32),
    # T5 writes blanks around the punctuation of questions, contexts and answers.
    Task("squad", "question: {question} context: {context}", "answers[text][0]", ("squad",),
         hub=Hub("rajpurkar/squad", "plain_text"), accepted="answers[text]", recipe="squad", prefix="",
         splits=VALIDATION_AS_TEST, size="large", answer_tokens=64),
    accuracy("paws", SENTENCE_PAIR, BINARY, Hub("google-research-datasets/paws", "labeled_final")),
    accuracy("imdb", "{text}", BINARY, Hub("stanfordnlp/imdb"), splits=TEST_ONLY, size="small"),
    accuracy("snli", PREMISE_HYPOTHESIS, THREE,
             Hub("stanfordnlp/snli"), unlabelled_rows=True),
    accuracy("scitail", SENTENCE_PAIR, BINARY, Hub("allenai/scitail", "snli_format"),
             target="gold_label", label_map={"entailment": "0", "neutral": "1"}),
    # Today's copy of trec numbers the classes in another order: ABBR, ENTY, DESC, HUM, LOC, NUM.
    accuracy("trec", "sentence: {text}", SIX, Hub("CogComp/trec", parquet_copy=True),
             target="label-coarse", splits=TEST_ONLY, size="small",
             aliases=(Alias("label-coarse", "coarse_label",
                            {"0": "2", "1": "1", "2": "0", "3": "3", "4": "5", "5": "4"}),)),
    accuracy("yelp_polarity", "sentence: {text}", BINARY, Hub("fancyzhx/yelp_polarity"),
             splits=TEST_ONLY, size="large"),
    translation("wmt16-ro-en", "ro", "en", "Romanian to English", Hub("wmt/wmt16", "ro-en")),
    # The authors' task goes from English to Hindi, whatever its name says.
    translation("wmt14-hi-en", "en", "hi", "English to Hindi", Hub("wmt/wmt14", "hi-en")),
    translation("wmt16-en-ro", "en", "ro", "English to Romanian", Hub("wmt/wmt16", "ro-en")),
    translation("wmt16-en-cs", "en", "cs", "English to Czech", Hub("wmt/wmt16", "cs-en")),
    translation("wmt16-en-fi", "en", "fi", "English to Finnish", Hub("wmt/wmt16", "fi-en")),
    translation("iwslt2017-ro-nl", "ro", "nl", "Romanian to Dutch", iwslt("ro-nl")),
    translation("iwslt2017-en-nl", "en", "nl", "English to Dutch", iwslt("en-nl")),
    accuracy("social_i_qa",
             "question: {question} context: {context} answerA: {answerA} answerB: {answerB} answerC: {answerC}", THREE,
             Hub("allenai/social_i_qa", "default", parquet_copy=True),
             label_map={"1": "0", "2": "1", "3": "2"}, splits=VALIDATION_AS_TEST, size="large"),
    accuracy("cosmos_qa",
             "question: {question} context: {context} answer0: {answer0} answer1: {answer1}"
             " answer2: {answer2} answer3: {answer3}", FOUR,
             Hub("allenai/cosmos_qa", parquet_copy=True),
             splits=VALIDATION_AS_TEST, size="large"),
    accuracy("winogrande", "sentence: {sentence} option1: {option1} option2: {option2}", ("1", "2"),
             Hub("allenai/winogrande", "winogrande_l"),
             target="answer", splits=VALIDATION_AS_TEST, size="large"),
    accuracy("hellaswag",
             "ctx: {ctx} ending0: {endings[0]} ending1: {endings[1]} ending2: {endings[2]} ending3: {endings[3]}", FOUR,
             Hub("Rowan/hellaswag"), splits=VALIDATION_AS_TEST, size="large"),
    accuracy("commonsense_qa",
             "question: {question} "
             + " ".join(f"{{choices[label][{i}]}}: {{choices[text][{i}]}}" for i in range(5)),
             ("0", "1", "2", "3", "4"), Hub("tau/commonsense_qa"), target="answerKey",
             label_map={"A": "0", "B": "1", "C": "2", "D": "3", "E": "4"}, splits=VALIDATION_AS_TEST, size="small"),
    accuracy("sick", PREMISE_HYPOTHESIS, THREE, Hub("RobZamp/sick", parquet_copy=True),
             label_map={"ENTAILMENT": "0", "NEUTRAL": "1", "CONTRADICTION": "2"}, size="small",
             aliases=(Alias("premise", "sentence_A"), Alias("hypothesis", "sentence_B"))),
    toy("toy-sentiment", "sentence: {sentence}"),
    toy("toy-entailment", PREMISE_HYPOTHESIS),
    toy("toy-paraphrase", SENTENCE_PAIR, metrics=("f1_score_with_invalid", "accuracy"), answer="int"),
    toy("toy-acceptability", "sentence: {sentence}", metrics=("matthews_corrcoef",), answer="int"),
    toy("toy-similarity", SENTENCE_PAIR, SCORES, metrics=("pearson_corrcoef", "spearman_corrcoef"), rounded=True,
        answer="float"),
)  # fmt: skip
