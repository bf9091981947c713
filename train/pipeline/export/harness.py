"""An lm-eval task folder: the test split asked as evaluation asked it, and scored by the same metrics."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from train.base import console
from train.data.dataset import Row, trace_of
from train.evaluate.scoring import category_specs, part_reasoning, spec_of
from train.pipeline.export.source import Source, Written, ids_served_differently, inexpressible, served_prompt
from train.report import wording

_INSTEAD = "Use `train eval` instead."


def write(source: Source, work: Path, _dtype: str) -> Written:
    """Fill ``work`` with a task for each category, their records and the code that scores them.

    Raises TrainError "E905 cannot-express" with the records that a harness would see otherwise.
    """
    rows = _test_rows(source)
    generation = {"until": source.stop_texts, "do_sample": False, "max_gen_toks": _limit(source, rows)}
    group = f"pairsmith_{_slug(source.dataset.path.resolve().parent.parent.name + '-' + source.name)}"
    specs = category_specs(source.dataset.manifest.get("categories", {}))
    scorers: dict[str, Any] = {}
    names = []
    for category in sorted({row.category for row in rows}):
        spec, alias = spec_of(specs, category), wording.category(" ".join(console.visible(category).split()))
        if spec.metric.name == "judge" or spec.choices:
            console.info(f"{alias}: no task, as {spec.metric.name} scores no text that a model writes by itself")
            continue
        scorers[category] = {"metric": spec.metric.name, "primary": spec.metric.primary, "options": dict(spec.options)}
        names.append(name := f"{group}_{_slug(category)}")
        task = {
            "task": name, "task_alias": alias, "output_type": "generate_until",
            "dataset_kwargs": {"file": f"{name}.jsonl"}, "test_split": "test", "num_fewshot": 0,
            "doc_to_text": "prompt", "doc_to_target": "reference", "target_delimiter": "",
            "generation_kwargs": generation, "metadata": {"version": 1.0},
            "metric_list": [{"metric": spec.metric.primary, "aggregation": "mean", "higher_is_better": True}],
        }  # fmt: skip
        # Such a tag is no JSON, and lm-eval imports the function behind it.
        code = ',\n "custom_dataset": !function scores.documents,\n "process_results": !function scores.answer\n}\n'
        _write(work / f"{name}.yaml", json.dumps(task, indent=1, ensure_ascii=False).removesuffix("\n}") + code)
        documents = [_document(source, row) for row in rows if row.category == category]
        _write(work / f"{name}.jsonl", "".join(json.dumps(document) + "\n" for document in documents))
    if not names:
        raise inexpressible("no category has a score that a harness can compute", _INSTEAD)
    _write(work / f"{group}.yaml", json.dumps({"group": group, "task": names}, indent=1))
    _write(work / "categories.json", json.dumps(scorers, indent=1))
    _write(work / "scores.py", (Path(__file__).parent / "scores.py.txt").read_text(encoding="utf-8"))
    # The prompts hold their own beginning-of-text token, where there is one.
    model = f"pretrained=MODEL,dtype={source.recipe.dtype},add_bos_token=False"
    return Written(None, f"lm-eval run --model hf --model_args {model} --include_path FOLDER --tasks {group}")


def _test_rows(source: Source) -> list[Row]:
    # The test records as evaluation takes them; each proved to be the same tokens for a program that gets its text.
    rows = [row for row in source.dataset.splits["test"] if row.messages]
    if thinking := [row.id for row in rows if any(map(trace_of, row.messages or ()))]:
        what = f"a harness scores reasoning as a part of the answer; records with some: {console.join_names(thinking)}"
        raise inexpressible(what, _INSTEAD)
    if source.renderer.has_reasoning_marks:
        console.info("warning: the base may write reasoning, which a harness scores as a part of the answer")
    rendered = source.renderer.examples(rows)
    for warning in rendered.warnings("test"):
        console.info(f"warning: {warning}")
    if rendered.cut:
        what = f"evaluation cut {len(rendered.cut)} records: {console.join_names(rendered.cut)}"
        raise inexpressible(what, "Train with on_too_long = skip, or a larger max_length.")
    rendered_ids = {example.id for example in rendered.examples}
    rows = [row for row in rows if row.id in rendered_ids]
    if not rows:
        raise inexpressible("no test record has a prompt that can be rendered", "Export a dataset with a test split.")
    if odd := ids_served_differently(source.renderer, rows):
        what = f"a program that gets text makes other tokens of {len(odd)} records: {console.join_names(odd)}"
        raise inexpressible(what, "Look for control tokens in the data with `train preview`.")
    return rows


def _limit(source: Source, rows: list[Row]) -> int:
    # The most new tokens, such that a harness needs to cut no prompt for them.
    longest = max(len(prompt.ids) for row in rows if (prompt := source.renderer.prompt(row)) is not None)
    most = source.recipe.eval.max_new_tokens
    if source.reads and longest >= source.reads:
        what = f"the longest prompt has {longest} tokens and the model reads {source.reads}"
        raise inexpressible(what, "Leave it out with a shorter max_length and on_too_long = skip.")
    return min(most, source.reads - longest) if source.reads else most


def _document(source: Source, row: Row) -> dict[str, str]:
    prompt = source.renderer.prompt(row)
    assert prompt is not None, "only rows with messages are here"
    reference, _ = part_reasoning(prompt.reference)
    text = served_prompt(source.renderer, prompt)
    return {"id": row.id, "category": row.category, "prompt": text, "reference": reference}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _slug(text: str) -> str:
    # A name for a file or task that no text can turn into a path, and that no two texts share.
    plain = re.sub(r"[^a-z0-9]+", "_", text.casefold()).strip("_")[:40] or "none"
    return f"{plain}_{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"
