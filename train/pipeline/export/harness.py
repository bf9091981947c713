"""An lm-eval task folder: the test split as the renderer rendered it, scored by the same metrics and stops.

A category gives a task of answers (generate_until) where its scorer looks at one, a task of the loss (bits per byte of
the reference), and one of multiple choice where its scorer has choices.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from train.base import console
from train.base.errors import TrainError
from train.data.dataset import Row
from train.data.rendering import Renderer
from train.pipeline.export.adapter import stop_texts
from train.pipeline.export.documents import (
    Document,
    answer_document,
    choices_of,
    is_same_choice,
    is_same_loss,
    loss_documents,
)
from train.pipeline.export.serve import ids_served_differently
from train.pipeline.export.source import Source, Written
from train.report import wording
from train.report.evaluation import CategorySpec, spec_of

CODE = "scores.py"


def write(source: Source, work: Path, _dtype: str) -> Written:
    """Fill ``work`` with tasks, their records and the code that scores them.

    Raises TrainError "E905 cannot-express" with the records that a harness would see otherwise.
    """
    rows = _rows(source)
    limit, stops = _limit(source, rows), stop_texts(source)
    group = f"pairsmith_{_slug(source.dataset.path.resolve().parent.parent.name + '-' + source.name)}"
    scorers, tasks = {}, []
    for category in sorted({row.category for row in rows}):
        spec, name = spec_of(source.categories, category), f"{group}_{_slug(category)}"
        chosen = [row for row in rows if row.category == category]
        scorers[category] = {"metric": spec.metric.name, "primary": spec.metric.primary, "options": dict(spec.options)}
        for task, lines in _tasks_of(source.renderer, chosen, spec, name, stops, limit):
            (work / f"{task['task']}.yaml").write_text(_yaml(task), encoding="utf-8")
            text = "".join(json.dumps(document) + "\n" for document in lines)
            (work / f"{task['task']}.jsonl").write_text(text, encoding="utf-8")
            tasks.append(task["task"])
    if not tasks:
        raise TrainError(
            "E905 cannot-express", "no category has a score or a loss that a harness can compute", "train eval"
        )
    if source.renderer.objective == "domain":
        console.talk("no loss tasks: the run trained whole texts, and a harness scores answers")
    (work / f"{group}.yaml").write_text(_yaml({"group": group, "task": tasks}), encoding="utf-8")
    (work / "categories.json").write_text(json.dumps(scorers, indent=1) + "\n", encoding="utf-8")
    (work / CODE).write_text((Path(__file__).parent / "scores.py.txt").read_text(encoding="utf-8"), encoding="utf-8")
    # The prompts hold their own beginning-of-text token, where there is one.
    model = f"pretrained=MODEL,dtype={source.recipe.dtype},add_bos_token=False"
    return Written(None, f"lm-eval run --model hf --model_args {model} --include_path FOLDER --tasks {group}")


def _tasks_of(
    renderer: Renderer, rows: Sequence[Row], spec: CategorySpec, name: str, stops: Sequence[str], limit: int
) -> Iterator[tuple[dict[str, Any], list[Document]]]:
    """The tasks of a category with their records."""
    alias = wording.category(" ".join(console.visible(rows[0].category).split()))
    documents = [answer_document(renderer, row, spec) for row in rows]
    if spec.metric.kind == "judge":
        console.talk(f"{alias}: no task of answers, as a judge compares those of two models")
    elif not spec.choices:
        yield _answer_task(name, alias, spec.metric.primary, stops, limit), documents
    if renderer.objective != "domain":
        yield (
            _loss_task(f"{name}_loss", alias),
            [document for row in rows for document in loss_documents(renderer, row)],
        )
    if choices_of(spec) and (right := _with_right_choice(documents)):
        yield _choice_task(f"{name}_choices", alias), right


def _rows(source: Source) -> list[Row]:
    """The test records as evaluation takes them; each proved to be the same tokens for a program that gets its text."""
    rows = source.dataset.splits["test"]
    if raw := [row.id for row in rows if not row.messages]:
        console.talk(
            f"warning: {len(raw)} records of raw text have no prompt and are left out: {console.join_names(raw)}"
        )
    rows = [row for row in rows if row.messages]
    rendered = source.renderer.examples(rows)
    if rendered.skipped:
        message = f"{len(rendered.skipped)} records over max_length are left out"
        console.talk(f"warning: {message}: {console.join_names(rendered.skipped)}")
    if rendered.refused:
        message = f"{len(rendered.refused)} records cannot be rendered and are left out"
        console.talk(f"warning: {message}: {console.join_names(list(rendered.refused))}")
    if rendered.silent:
        message = f"{len(rendered.silent)} records have no answer that may be trained and are left out"
        console.talk(f"warning: {message}: {console.join_names(rendered.silent)}")
    if rendered.cut:
        raise TrainError(
            "E905 cannot-express", f"evaluation cut {len(rendered.cut)} records: {console.join_names(rendered.cut)}",
            "train with on_too_long = skip, or a larger max_length",
        )  # fmt: skip
    token_ids = {example.id: example.ids for example in rendered.examples}
    rows = [row for row in rows if row.id in token_ids]
    if not rows:
        raise TrainError(
            "E905 cannot-express", "no test record has a prompt that can be rendered",
            "export a data set with a test split",
        )  # fmt: skip
    odd = ids_served_differently(source.renderer, rows)
    if source.renderer.objective != "domain":
        odd += [
            row.id for row in rows if row.id not in odd and not is_same_loss(source.renderer, row, token_ids[row.id])
        ]
    comparable = [row for row in rows if row.id not in odd and row.category in source.categories]
    odd += [row.id for row in comparable if not is_same_choice(source.renderer, row, source.categories[row.category])]
    if odd:
        raise TrainError(
            "E905 cannot-express",
            f"a program that gets text makes other tokens of {len(odd)} records: {console.join_names(odd)}",
            "control tokens in the data do that; train preview shows them",
        )  # fmt: skip
    return rows


def _limit(source: Source, rows: Iterable[Row]) -> int:
    """The most new tokens, such that a harness needs to cut no prompt for them."""
    most = source.recipe.eval.max_new_tokens
    longest = max(len(prompt.ids) for row in rows if (prompt := source.renderer.prompt(row)) is not None)
    reads = source.reads or 2**31
    if reads - longest < 1:
        raise TrainError(
            "E905 cannot-express", f"the longest prompt has {longest} tokens and the model reads {reads}",
            "a shorter max_length with on_too_long = skip leaves it out",
        )  # fmt: skip
    if reads - longest < most:
        console.talk(
            f"warning: answers are at most {reads - longest} tokens, which the longest prompt leaves, not {most}"
        )
    return min(most, reads - longest)


def _answer_task(name: str, alias: str, primary: str, stops: Sequence[str], limit: int) -> dict[str, Any]:
    return _common(name, alias) | {
        "output_type": "generate_until", "doc_to_text": "prompt", "doc_to_target": "reference",
        "generation_kwargs": {"until": list(stops), "do_sample": False, "max_gen_toks": limit},
        "process_results": _Function("scores.answer"),
        "metric_list": [{"metric": primary, "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip


def _loss_task(name: str, alias: str) -> dict[str, Any]:
    # multiple_choice is the kind of task that asks for several likelihoods of one prompt.
    return _common(name, f"{alias} (loss)") | {
        "output_type": "multiple_choice", "doc_to_text": "context", "doc_to_target": 0,
        "doc_to_choice": "continuations", "process_results": _Function("scores.loss"),
        "metric_list": [{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
    }  # fmt: skip


def _choice_task(name: str, alias: str) -> dict[str, Any]:
    return _common(name, f"{alias} (choices)") | {
        "output_type": "multiple_choice", "doc_to_text": "context", "doc_to_target": "gold", "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip


def _with_right_choice(documents: Sequence[Document]) -> list[Document]:
    """The documents whose reference is a choice; the others have no right answer, and a warning names them."""
    if lost := [document["id"] for document in documents if document["gold"] is None]:
        console.talk(
            f"warning: the reference of {len(lost)} records is none of the choices: {console.join_names(lost)}"
        )
    return [document for document in documents if document["gold"] is not None]


def _common(name: str, alias: str) -> dict[str, Any]:
    return {
        "task": name, "task_alias": alias, "custom_dataset": _Function("scores.documents"),
        "dataset_kwargs": {"file": f"{name}.jsonl"}, "test_split": "test", "target_delimiter": "", "num_fewshot": 0,
        "metadata": {"version": 1.0},
    }  # fmt: skip


class _Function(str):
    """The name of a function beside the YAML file, which lm-eval imports."""


def _yaml(value: Mapping[str, Any]) -> str:
    # Comes with transformers.
    import yaml

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        pass

    Dumper.add_representer(_Function, lambda dumper, function: dumper.represent_scalar("!function", str(function)))
    return str(yaml.dump(dict(value), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=float("inf")))


def _slug(text: str) -> str:
    """A name for a file or task that no text can turn into a path, and that no two texts share."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.casefold()).strip("_")[:40] or "none"
    return f"{plain}_{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"
