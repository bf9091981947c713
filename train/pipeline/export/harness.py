"""An lm-eval task folder: the test split as the renderer rendered it, scored by the same metrics and stops.

A category gives a task of answers (generate_until) where its scorer looks at one, a task of the loss (bits per byte of
the reference), and one of multiple choice where its scorer has choices.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from train.base import console
from train.base.errors import TrainError
from train.data.dataset import Row, answer_weights, answers_of, last_answer, trace_of
from train.data.rendering import Conversation, Renderer, RowFault
from train.evaluate.metrics.choices import MARKS, index_of_choice
from train.evaluate.scoring import CategorySpec, part_reasoning, spec_of
from train.pipeline.export.models import stop_texts
from train.pipeline.export.source import Source, Written, ids_served_differently, plain_ids, render_texts
from train.report import wording

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
            "E905 cannot-express",
            "no category has a score or a loss that a harness can compute",
            "Use `train eval` instead.",
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
    alias = wording.category(" ".join(console.visible(rows[0].category).split()))
    documents = [answer_document(renderer, row, spec) for row in rows]

    def task(ending: str, note: str, **fields: Any) -> dict[str, Any]:
        return {
            "task": f"{name}{ending}", "task_alias": f"{alias}{note}", "custom_dataset": _Function("scores.documents"),
            "dataset_kwargs": {"file": f"{name}{ending}.jsonl"}, "test_split": "test", "target_delimiter": "",
            "num_fewshot": 0, "metadata": {"version": 1.0}, **fields,
        }  # fmt: skip

    if spec.metric.kind == "judge":
        console.talk(f"{alias}: no task of answers, as a judge compares those of two models")
    elif not spec.choices:
        fields = task(
            "", "", output_type="generate_until", doc_to_text="prompt", doc_to_target="reference",
            generation_kwargs={"until": list(stops), "do_sample": False, "max_gen_toks": limit},
            process_results=_Function("scores.answer"),
            metric_list=[{"metric": spec.metric.primary, "aggregation": "mean", "higher_is_better": True}],
        )  # fmt: skip
        yield fields, documents
    if renderer.objective != "domain":
        # multiple_choice is the kind of task that asks for several likelihoods of one prompt.
        fields = task(
            "_loss", " (loss)", output_type="multiple_choice", doc_to_text="context", doc_to_target=0,
            doc_to_choice="continuations", process_results=_Function("scores.loss"),
            metric_list=[{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
        )  # fmt: skip
        yield fields, [document for row in rows for document in loss_documents(renderer, row)]
    if choices_of(spec) and (right := _with_right_choice(documents)):
        fields = task(
            "_choices", " (choices)", output_type="multiple_choice", doc_to_text="context", doc_to_target="gold",
            doc_to_choice="choices", metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        )  # fmt: skip
        yield fields, right


def _rows(source: Source) -> list[Row]:
    # The test records as evaluation takes them; each proved to be the same tokens for a program that gets its text.
    rows = source.dataset.splits["test"]
    if raw := [row.id for row in rows if not row.messages]:
        console.talk(
            f"warning: {len(raw)} records of raw text have no prompt and are left out: {console.join_names(raw)}"
        )
    rows = [row for row in rows if row.messages]
    if thinking := [row.id for row in rows if any(map(trace_of, row.messages or ()))]:
        raise TrainError(
            "E905 cannot-express",
            f"a harness scores reasoning as a part of the answer; records with some: {console.join_names(thinking)}",
            "Use `train eval` instead.",
        )
    if source.renderer.has_reasoning_marks:
        console.talk("warning: the base may write reasoning, which a harness scores as a part of the answer")
    rendered = source.renderer.examples(rows)
    for warning in rendered.warnings("test"):
        console.talk(f"warning: {warning}")
    if rendered.cut:
        raise TrainError(
            "E905 cannot-express", f"evaluation cut {len(rendered.cut)} records: {console.join_names(rendered.cut)}",
            "Train with on_too_long = skip, or a larger max_length.",
        )  # fmt: skip
    token_ids = {example.id: example.ids for example in rendered.examples}
    rows = [row for row in rows if row.id in token_ids]
    if not rows:
        raise TrainError(
            "E905 cannot-express", "no test record has a prompt that can be rendered",
            "Export a dataset with a test split.",
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
            "Look for control tokens in the data with `train preview`.",
        )  # fmt: skip
    return rows


def _limit(source: Source, rows: Iterable[Row]) -> int:
    # The most new tokens, such that a harness needs to cut no prompt for them.
    most = source.recipe.eval.max_new_tokens
    longest = max(len(prompt.ids) for row in rows if (prompt := source.renderer.prompt(row)) is not None)
    reads = source.reads or 2**31
    if reads - longest < 1:
        raise TrainError(
            "E905 cannot-express", f"the longest prompt has {longest} tokens and the model reads {reads}",
            "Leave it out with a shorter max_length and on_too_long = skip.",
        )  # fmt: skip
    if reads - longest < most:
        console.talk(
            f"warning: answers are at most {reads - longest} tokens, which the longest prompt leaves, not {most}"
        )
    return min(most, reads - longest)


def _with_right_choice(documents: Sequence[Document]) -> list[Document]:
    # The documents whose reference is a choice; the others have no right answer, and a warning names them.
    if lost := [document["id"] for document in documents if document["gold"] is None]:
        console.talk(
            f"warning: the reference of {len(lost)} records is none of the choices: {console.join_names(lost)}"
        )
    return [document for document in documents if document["gold"] is not None]


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
    # A name for a file or task that no text can turn into a path, and that no two texts share.
    plain = re.sub(r"[^a-z0-9]+", "_", text.casefold()).strip("_")[:40] or "none"
    return f"{plain}_{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


Document = dict[str, Any]


def answer_document(renderer: Renderer, row: Row, spec: CategorySpec) -> Document:
    """Return what a record's answer is generated from and scored by, and its choices where the category has some.

    "gold" is the index of the right choice, None where the reference is no choice.
    """
    prompt, _ = render_texts(renderer, row)
    rendered = renderer.prompt(row)
    assert rendered is not None, "only rows with messages are here"
    reference, _ = part_reasoning(rendered.reference)
    document: Document = {"id": row.id, "category": row.category, "prompt": prompt, "reference": reference}
    if choices := choices_of(spec):
        document["context"] = prompt.rstrip()
        document["gold"] = index_of_choice(reference, choices, marks="" if spec.choices else MARKS)
        # Evaluation counts no end where it compares choices.
        document["choices"] = [
            _space(prompt) + _answered(renderer, row, choice, has_end=not spec.choices) for choice in choices
        ]
    return document


def loss_documents(renderer: Renderer, row: Row) -> Iterator[Document]:
    """Yield one document for each trained answer of a record; their losses and bytes add up to the record's.

    A harness moves white space from the end of a prompt to what follows and counts it there, so it is scored by itself
    too and taken off: log p(space + answer) - log p(space) = log p(answer | prompt).
    """
    for part in _trained_parts(renderer, row):
        located = renderer.locate(part)
        prompt, answer = render_texts(renderer, part)
        space = _space(prompt)
        yield {
            "id": row.id, "category": row.category, "context": prompt.rstrip(),
            "continuations": [space + answer, *([space] if space else [])], "num_bytes": len(_spoken(located).encode()),
        }  # fmt: skip


def is_same_loss(renderer: Renderer, row: Row, ids: Sequence[int]) -> bool:
    """Whether a harness that joins prompt, white space and answer as text scores the tokens ``ids`` of evaluation."""
    return all(_is_same(renderer, *render_texts(renderer, part), ids) for part in _trained_parts(renderer, row))


def is_same_choice(renderer: Renderer, row: Row, spec: CategorySpec) -> bool:
    """Whether a harness compares the tokens of choices that evaluation compared; true where it compared none."""
    prompt, _ = render_texts(renderer, row)
    return all(
        _is_same(renderer, prompt, _answered(renderer, row, choice, has_end=False), [*prompt_ids, *option])
        for choice in spec.choices
        for prompt_ids, option in [renderer.option(row, choice)]
    )


def choices_of(spec: CategorySpec) -> list[str]:
    """Return the choices of a category that is scored by one, be it written or the likeliest."""
    return list(spec.options.get("choices") or ()) if spec.metric.kind in ("choice", "likelihood") else []


def _trained_parts(renderer: Renderer, row: Row) -> list[Row]:
    # The record up to each answer that is trained: those of the objective that its marks do not take out.
    messages = row.messages or []
    answers = answers_of(messages, renderer.objective)
    weights = answer_weights(messages, answers)
    return [replace(row, messages=messages[: n + 1]) for n, weight in zip(answers, weights, strict=True) if weight > 0]


def _is_same(renderer: Renderer, prompt: str, answer: str, ids: Sequence[int]) -> bool:
    whole, context = plain_ids(renderer, prompt + answer), plain_ids(renderer, prompt.rstrip())
    return whole == list(ids)[: len(whole)] and whole[: len(context)] == context


def _space(prompt: str) -> str:
    return prompt[len(prompt.rstrip()) :]


def _spoken(located: Conversation) -> str:
    return located.layout.text[located.turn.start : located.turn.stop]


def _answered(renderer: Renderer, row: Row, text: str, *, has_end: bool) -> str:
    """The answer ``text`` as it would be trained, with its end token or without."""
    messages = row.messages or []
    answer = {"role": "assistant", "content": text}
    try:
        located = renderer.locate(replace(row, messages=[*messages[: last_answer(messages)], answer]))
    except RowFault as fault:
        raise TrainError(fault.code, f"the choice {text!r} of {row.category!r}: {fault.reason}", fault.hint) from None
    return located.answer if has_end else _spoken(located)
