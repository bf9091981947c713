"""The contracts of categories: the same verdicts as in evaluation, read safely, and carried whole into the manifest."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing

from curate.base.record import CurateError, Exit, Record, Source
from curate.checks import discover
from curate.checks.language import is_identifiable
from curate.checks.runner import CheckPlan, validate
from curate.project.data import ProjectData
from curate.project.publish import export_dataset, scoring
from curate.schema import bundled, load_shape
from curate.schema.settings import Category, Citations, Settings, read_settings, settings_adapter

CASES = json.loads((Path(__file__).resolve().parent.parent / "contract_cases.json").read_text(encoding="utf-8"))
EACH = [
    pytest.param(group["contract"], case, id=f"{number}-{case['name']}")
    for number, group in enumerate(CASES)
    for case in group["cases"]
]
RULES = {"schema": "Q210", "length": "Q211", "language": "Q212", "citations": "Q213"}
BILL = {"type": "object", "required": ["id"], "properties": {"id": {"$ref": "parts/id.json#/$defs/id"}}}
ID = {"$defs": {"id": {"type": "string", "pattern": "^[A-Z]"}}}


def settings_of(contract: dict[str, Any], folder: Path) -> Settings:
    told = dict(contract)
    if "schema" in told:
        (folder / "s.json").write_text(json.dumps(told["schema"]), encoding="utf-8")
        told["schema"] = "s.json"
    return settings_adapter().validate_python({"categories": {"orders": told}}).at(folder)


def record_of(completion: str, prompt: str = "Which?", **more: Any) -> Record:
    line = {"instruction": prompt or "Which?", "output": completion, "category": "orders"} | more
    return load_shape("instruction").record(line, Source("a.jsonl", 1))


def broken(record: Record, settings: Settings) -> set[str]:
    shelf = discover()
    runs = {rule: shelf[code].run for rule, code in RULES.items()}
    return {rule for rule, run in runs.items() if run and list(run(record, settings))}


@pytest.mark.parametrize(("contract", "case"), EACH)
def test_the_checks_give_each_case_its_verdict(contract: dict[str, Any], case: dict[str, Any], tmp_path: Path) -> None:
    found = broken(record_of(case["completion"], case["prompt"]), settings_of(contract, tmp_path))
    assert found == {rule for rule, is_kept in case["keeps"].items() if not is_kept}


@pytest.mark.parametrize("group", CASES, ids=range(len(CASES)))
def test_the_manifest_tells_the_trainer_the_same_contract(group: dict[str, Any], tmp_path: Path) -> None:
    assert scoring(settings_of(group["contract"], tmp_path), "orders")["contract"] == group["options"]


def test_each_broken_rule_is_a_finding_without_values(tmp_path: Path) -> None:
    settings = settings_of({"schema": CASES[0]["contract"]["schema"]}, tmp_path)
    check = discover()["Q210"].run
    assert check
    found = list(check(record_of('{"id": "secret", "lines": [0, "hidden"]}'), settings))
    assert [problem.pointer for problem in found] == ["/output"] * 3
    places = [problem.message.split(": ")[0].split(" at ")[1] for problem in found]
    assert places == ["/id", "/lines/0", "/lines/1"]
    assert not any(word in problem.message for problem in found for word in ("secret", "hidden"))


def test_the_last_answer_of_a_chat_is_judged_unless_it_calls_tools(tmp_path: Path) -> None:
    settings = Settings(categories={"orders": Category(max_chars=3)})
    call = {"id": "c", "type": "function", "function": {"name": "find_order", "arguments": "{}"}}
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "far too long"}]

    def chat(*messages: dict[str, Any]) -> Record:
        return load_shape("chat").record({"messages": [*messages], "category": "orders"}, Source("a", 1))

    assert broken(chat(*turns), settings) == {"length"}
    assert not broken(chat(*turns, turns[0], {"role": "assistant", "content": "ok"}), settings)
    assert not broken(chat(*turns, turns[0], {"role": "assistant", "content": None, "tool_calls": [call]}), settings)
    assert not broken(
        load_shape("domain").record({"text": "far too long", "category": "orders"}, Source("a", 1)), settings
    )


def test_what_a_tool_or_the_system_said_can_be_cited() -> None:
    settings = Settings(categories={"orders": Category(citations=Citations(pattern=r"\[\d\]", in_prompt=True))})
    for role in ("system", "user", "tool"):
        messages = [{"role": role, "content": "[4] Rain."}, {"role": "user", "content": "Weather?"}]
        line = {"messages": [*messages, {"role": "assistant", "content": "Rain [4]."}], "category": "orders"}
        assert not broken(load_shape("chat").record(line, Source("a", 1)), settings)


@pytest.mark.parametrize("pattern", ["(", r"(?=a)b", r"(a)\1", "a{100000}{100000}", r"\p{L}+"])
def test_a_pattern_that_one_side_cannot_read_is_refused(pattern: str) -> None:
    settings = Settings(categories={"orders": Category(citations=Citations(pattern=pattern))})
    with pytest.raises(CurateError, match=r"category 'orders': citations\.pattern") as caught:
        broken(record_of("x"), settings)
    assert caught.value.code == "E960 bad-contract"
    assert caught.value.exit_code == Exit.USAGE


def test_hostile_patterns_are_answered_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    evil = Settings(categories={"orders": Category(citations=Citations(pattern="(a+)+b"))})
    assert broken(record_of("a" * 50_000 + "!"), evil) == {"citations"}
    schema = settings_of({"schema": {"type": "string", "pattern": "^(a+)+$"}}, tmp_path)
    assert broken(record_of(json.dumps("a" * 5_000 + "!")), schema) == {"schema"}
    assert time.monotonic() - began < 2


def toml(schema: str) -> str:
    return f'[split]\nseed = 1\n[categories.orders]\nschema = "{schema}"\n'


@pytest.mark.parametrize("schema", ["missing.json", "../outside.json", "/etc/hostname", "data", "a\\u0000b"])
def test_a_contract_that_is_not_in_the_workspace_is_refused(schema: str, tmp_path: Path) -> None:
    (tmp_path / "outside.json").write_text("{}", encoding="utf-8")
    (tmp_path / "ws" / "data").mkdir(parents=True)
    (tmp_path / "ws" / "curate.toml").write_text(toml(schema), encoding="utf-8")
    with pytest.raises(CurateError, match="the contract of category 'orders'") as caught:
        read_settings(tmp_path / "ws")
    assert caught.value.code == "E960 bad-contract"


@pytest.mark.parametrize(
    ("text", "jobs"),
    [
        ("{", 1),
        ("{", 2),
        ('{"type": 7}', 1),
        ('{"$ref": "https://example.org/a.json"}', 1),
        ('{"$ref": "../a.json"}', 1),
        ('{"$ref": "#"}', 1),
    ],
)
def test_a_contract_that_is_no_schema_ends_the_run_with_its_reason(text: str, jobs: int, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(text, encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('{"instruction": "q", "output": "{}", "category": "orders"}\n', encoding="utf-8")
    settings = settings_adapter().validate_python({"categories": {"orders": {"schema": "s.json"}}}).at(tmp_path)
    with pytest.raises(CurateError, match="category 'orders'") as caught:
        validate([tmp_path / "a.jsonl"], CheckPlan(load_shape("instruction"), settings), jobs=jobs)
    assert caught.value.code == "E960 bad-contract"
    with pytest.raises(CurateError, match="category 'orders'"):
        scoring(settings, "orders")


def test_workers_know_where_the_schemas_are(tmp_path: Path) -> None:
    settings = settings_of({"schema": {"type": "integer"}, "max_chars": 2}, tmp_path)
    lines = [{"instruction": f"q{n}", "output": str(n) if n % 2 else "no", "category": "orders"} for n in range(200)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    one, two = (
        validate([tmp_path / "a.jsonl"], CheckPlan(load_shape("instruction"), settings), jobs=jobs) for jobs in (1, 2)
    )
    assert one.counts["Q210"] == 100
    assert one.counts["Q211"] == 50
    assert one == two
    assert pickle.loads(pickle.dumps(settings)).root == tmp_path.resolve()


def test_an_error_survives_the_way_out_of_a_worker() -> None:
    error = CurateError("E960 bad-contract", "what", "do this", exit_code=Exit.MISSING)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code, copy.message, copy.hint, copy.exit_code) == (
        "E960 bad-contract",
        "what",
        "do this",
        Exit.MISSING,
    )


def write_parts(folder: Path, bill: Any = BILL, part: Any = ID) -> Path:
    (folder / "schemas" / "parts").mkdir(parents=True)
    (folder / "schemas" / "bill.json").write_text(json.dumps(bill), encoding="utf-8")
    (folder / "schemas" / "parts" / "id.json").write_text(json.dumps(part), encoding="utf-8")
    return folder / "schemas" / "bill.json"


@pytest.mark.parametrize(
    ("dialect", "keyword"),
    [
        ("https://json-schema.org/draft/2020-12/schema", "$defs"),
        ("http://json-schema.org/draft-07/schema#", "definitions"),
    ],
)
def test_a_bundle_means_the_same_to_a_reader_without_files(dialect: str, keyword: str, tmp_path: Path) -> None:
    path = write_parts(tmp_path, {"$schema": dialect} | BILL, {keyword: ID["$defs"]})
    path.write_text(path.read_text(encoding="utf-8").replace("$defs", keyword), encoding="utf-8")
    bundle = bundled(path, tmp_path)
    kind = jsonschema.validators.validator_for(bundle, default=jsonschema.Draft202012Validator)
    kind.check_schema(bundle)
    reader = kind(bundle, registry=referencing.Registry())
    assert reader.is_valid({"id": "A7"})
    assert not reader.is_valid({"id": "a7"})
    assert not reader.is_valid({})
    assert str(tmp_path) not in json.dumps(bundle)


def test_a_schema_without_files_is_left_as_it_is_and_a_part_with_its_own_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain.json").write_text('{"type": "string"}', encoding="utf-8")
    assert bundled(tmp_path / "plain.json", tmp_path) == {"type": "string"}
    path = write_parts(tmp_path, BILL, {"$id": "file:///schemas/parts/id.json"} | ID)
    with pytest.raises(CurateError, match="names itself"):
        bundled(path, tmp_path)


def test_an_export_carries_the_contract_and_scores_by_it(make_workspace: Callable[..., ProjectData]) -> None:
    lines = [
        {
            "id": f"r{n}",
            "instruction": f"Order item{n} of thing{n * 7}.",
            "output": f'{{"id": "A{n}"}}',
            "category": name,
        }
        for n, name in enumerate(["orders", "returns", "billing"] * 20)
    ]
    workspace = make_workspace(lines)
    write_parts(workspace.root)
    (workspace.root / "curate.toml").write_text(
        "[split]\nseed = 1\n"
        '[categories.orders]\nschema = "schemas/bill.json"\nmax_chars = 40\n'
        '[categories.returns]\nschema = "schemas/bill.json"\nscorer = "exact"\n'
        '[categories.billing]\nscorer = "contract"\nmin_chars = 2\n',
        encoding="utf-8",
    )
    made, _ = export_dataset(type(workspace)(workspace.root, read_settings(workspace.root), workspace.shape))
    told = json.loads((made.path / "manifest.json").read_text(encoding="utf-8"))["categories"]
    assert told["orders"]["scorer"] == "json_schema"
    assert told["orders"]["options"]["schema"] == told["orders"]["contract"]["schema"]
    assert told["orders"]["contract"]["max_chars"] == 40
    assert jsonschema.Draft202012Validator(told["orders"]["contract"]["schema"]).is_valid({"id": "A7"})
    assert (told["returns"]["scorer"], told["returns"]["options"]) == ("exact", {})
    assert told["billing"]["options"] == told["billing"]["contract"] == {"min_chars": 2}


def test_the_language_extra_tells_languages_of_one_script_apart() -> None:
    pytest.importorskip("py3langid", reason="the extra lang is not installed")
    assert is_identifiable("de")
    polish = (
        "Rachunek należy zapłacić do piątego dnia każdego miesiąca. Wysyłamy go pocztą razem z zamówioną paczką, a "
        "potem jeszcze mailem."
    )
    for language, is_broken in (("pl", False), ("cs", True), ("en", True), ("xx", False)):
        settings = Settings(categories={"orders": Category(language=language)})
        assert bool(broken(record_of(polish), settings)) == is_broken, language
    short = Settings(categories={"orders": Category(language="cs")})
    assert not broken(record_of(polish[:60]), short)


@pytest.mark.ci
def test_no_language_of_mgsm_is_taken_for_another(shared: Path) -> None:
    for path in sorted((shared / "data" / "mgsm").glob("*.tsv")):
        settings = Settings(categories={"orders": Category(language=path.stem[-2:])})
        rows = [line.split("\t")[0] for line in path.read_text(encoding="utf-8").splitlines()]
        assert len(rows) > 200
        assert not [row for row in rows if broken(record_of(row), settings)]
