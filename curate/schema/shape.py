"""A line shape: a schema, compiled, with its view of a line as a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs
import orjson

from curate.base.console import one_line
from curate.base.record import (
    BOOKKEEPING,
    CurateError,
    Finding,
    Json,
    Kind,
    Problem,
    Record,
    Source,
    canonical,
    normalised,
)
from curate.base.resources import shipped
from curate.jsonl import parts_of
from curate.schema.schema_set import MAX_DEPTH, SchemaSet, bad_schema, depth_of, read_schema_set
from curate.schema.view import SINGLE_FIELDS, View, conventional_view, text_of, without_reasoning
from curate.schema.words import MASK, LimitProblem, problems_of

_SUFFIX = ".schema.json"
# Steps back in one pattern, after which the engine gives up: nested repeats would take minutes.
_BACKTRACK_LIMIT = 100_000
# Bytes of a compiled pattern; one with a huge counted repeat would take gigabytes.
_PATTERN_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Shape:
    """What lines must look like and how to read them. Built by `load_shape`.

    ``view`` is None for a schema that neither says nor shows where the record's texts are: such lines can be validated
    but not seen as records. ``warnings`` are findings about the schema itself.
    """

    name: str
    path: Path
    root: Path
    schema: Json
    view: View | None
    warnings: tuple[Finding, ...]
    schema_set: SchemaSet
    """The schema with every document that it refers to."""
    _validator: Any
    is_own: bool
    """Whether it is not one of the shipped ones, so that its view need not fit what it allows."""

    def __reduce__(self) -> tuple[Callable[..., Shape], tuple[str, Path]]:
        # The engine's validator cannot be pickled; another process compiles the same schema.
        return load_shape, (str(self.path.resolve()), self.root.resolve())

    @property
    def kind(self) -> Kind:
        """What its records are for."""
        return self.view.kind if self.view else "instruction"

    @cached_property
    def is_valid(self) -> Callable[[Json], bool]:
        """Says whether the schema allows a value. A pattern that hits the engine's limit counts as not valid."""
        # Asked a million times: what a shape does not need stays out of the way of the engine's own answer.
        is_allowed: Callable[[Json], bool] = self._validator.is_valid
        if self.schema_set.depth == MAX_DEPTH and not (self.is_own and self.view):
            return is_allowed
        return lambda value: self._is_affordable(value) and is_allowed(value) and not any(self._misfits(value))

    def problems(self, value: Json, *, show_values: bool = False) -> list[Problem]:
        """Return one problem for each rule that ``value`` breaks, sorted by place; none hold data unless asked for.

        A `LimitProblem` says that a pattern could not be decided.
        """
        if not self._is_affordable(value):
            return [LimitProblem("is nested too deep for a schema that branches this often")]
        errors = list(self._validator.iter_errors(value))
        problems = problems_of(errors, self.schema_set, show_values=show_values)
        problems = problems or list(self._misfits(value))
        return sorted(dict.fromkeys(problems), key=lambda problem: problem.pointer)

    def _misfits(self, value: Json) -> Iterator[Problem]:
        if self.is_own and self.view and isinstance(value, dict):
            yield from self.view.misfits(value)

    def _is_affordable(self, value: Json) -> bool:
        """Whether the engine can be asked: some recursive schemas take twice as long for each level of the value."""
        limit = self.schema_set.depth
        return limit >= MAX_DEPTH or depth_of(value) <= limit

    @cached_property
    def record(self) -> Callable[[Mapping[str, Json], Source], Record]:
        """Return a valid line, read at a source, as a record.

        Raises:
            CurateError: E905, the schema has no ``x-record`` view.
        """
        # Asked a million times, too, so that the view itself answers.
        return self._need_view().record

    def ignored(self, value: Mapping[str, Json]) -> frozenset[str]:
        """Return the codes and names of checks that a valid line asks to be excused from."""
        return frozenset((self.view.get(value, "ignore") if self.view else None) or ())

    def line(self, record: Record) -> dict[str, Json]:
        """Return ``record``, whatever shape it was read in, as a line of this shape: the inverse of `record`.

        Raises:
            CurateError: E905, this shape cannot say all that the record says.
        """
        view = self._need_view()
        best: list[Problem] = []
        for draft in view.drafts(record):
            if view.is_faithful(draft, record):
                problems = self.problems(draft)
                if not problems:
                    return draft
                best = problems
        reason = f"{best[0].pointer or 'the line'} {best[0].message}" if best else "a part of it has no place there"
        where = f"{record.source.file}:{record.source.line}"
        message = f"{where}: the {record.kind} record {one_line(record.id, 60)} does not fit {self.name}: {reason}"
        raise CurateError("E905 cannot-express", message, "Choose a shape that can hold it, for example chat.")

    def _need_view(self) -> View:
        if self.view is None:
            message = f"{self.path} does not say which keys of a line are prompt and completion"
            hint = 'Add "x-record", for example {"prompt": "/question", "completion": "/answer"}.'
            raise CurateError("E905 cannot-express", message, hint)
        return self.view


def load_shape(name_or_path: str, root: Path | None = None) -> Shape:
    """Load a shipped shape by name (``instruction``) or a schema file by path, relative to ``root``.

    References are followed inside ``root`` only (by default the file's own folder).

    Raises:
        CurateError: E903, the schema is unfit, with the reason; E904, there is no such schema.
    """
    if "/" in name_or_path or name_or_path.endswith(".json"):
        path = (root or Path()) / name_or_path
        root = root or path.parent
    else:
        path = shipped("schemas") / f"{name_or_path}{_SUFFIX}"
        root = path.parent
        if not path.is_file():
            hint = f"Known: {', '.join(shape_names())}, or the path of a schema."
            raise CurateError("E904 no-such-file", f"there is no shape {name_or_path!r}", hint)
    if "\0" in name_or_path:
        raise CurateError("E904 no-such-file", f"{name_or_path!r} is no path", "Name a schema file.")
    return _compiled(path, root)


def load_contract(path: Path, root: Path) -> Shape:
    """Load a schema that completions must fit, as a shape without a view; references are followed inside ``root``.

    Raises:
        CurateError: E903, the schema is unfit, with the reason; E904, there is no such schema.
    """
    # ``format`` is a remark here, as 2020-12 has it by default: which formats a library knows differs, and training
    # scores completions with another library than this one.
    return _compiled(path, root, is_contract=True)


def _compiled(path: Path, root: Path, *, is_contract: bool = False) -> Shape:
    schema_set = read_schema_set(path, root)
    schema, documents = schema_set.schema, schema_set.documents
    try:
        validator = build_validator(schema, documents, base_uri=schema_set.uri, is_format_checked=not is_contract)
    except jsonschema_rs.ValidationError as error:
        raise _unfit(path, error) from error
    except ValueError as error:
        raise bad_schema(path, "schema-invalid", one_line(str(error))) from error
    name = path.name.removesuffix(_SUFFIX).removesuffix(".json")
    is_own = path.parent.resolve() != shipped("schemas").resolve()
    view, warnings = None if is_contract else _view_of(path, schema), tuple(schema_set.warnings)
    return Shape(name, path, root, schema, view, warnings, schema_set, validator, is_own)


def build_validator(
    schema: Json, resources: Mapping[str, Json], *, base_uri: str | None = None, is_format_checked: bool = True
) -> jsonschema_rs.Validator:
    """Compile ``schema`` with jsonschema-rs, which never reaches the network and may not hang on a pattern.

    ``resources`` are the only other schemas that a reference can reach, by absolute URI. ``format`` is checked, since a
    curator who writes it expects that; the 2020-12 default of annotating only is had with ``is_format_checked=False``.
    Patterns have the ECMA meaning: digits and letters are ASCII, and a dollar sign is the very end.

    Raises:
        jsonschema_rs.ValidationError: the schema is not one, or a reference leads nowhere.
    """

    def retrieve(uri: str) -> Json:
        if uri in resources:
            return resources[uri]
        raise LookupError(f"{uri} is not part of the project")

    return jsonschema_rs.validator_for(
        schema,
        retriever=retrieve,
        base_uri=base_uri,
        mask=MASK,
        validate_formats=is_format_checked,
        pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACK_LIMIT, size_limit=_PATTERN_BYTES),
    )


def shape_names() -> list[str]:
    """Return the names of the shipped line shapes, the simplest first: those schemas that have a view."""
    names = [
        p.name.removesuffix(_SUFFIX) for p in shipped("schemas").glob(f"*{_SUFFIX}") if b'"x-record"' in p.read_bytes()
    ]
    return sorted(names, key=lambda name: (name != "instruction", name))


def guess_shape(values: Iterable[Json]) -> str | None:
    """Return the shipped shape that allows the most of the sample ``values``, None where none allows any."""
    sample = list(values)
    best, most = None, 0
    for name in shape_names():
        keys = _keys_of(name)
        # To compile a schema takes longer than to look at a small file.
        if sum(value.keys() <= keys for value in sample if isinstance(value, dict)) <= most:
            continue
        num_valid = sum(map(load_shape(name).is_valid, sample))
        if num_valid > most:
            best, most = name, num_valid
        # No other allows more.
        if most == len(sample):
            break
    return best


def _keys_of(name: str) -> KeysView[str]:
    """Return the keys that lines of a shipped shape may have."""
    keys: dict[str, Json] = orjson.loads((shipped("schemas") / f"{name}{_SUFFIX}").read_bytes())["properties"]
    return keys.keys()


def resembled_shape(values: Iterable[Json]) -> str:
    """Return the shipped shape that shares the most keys with the sample ``values``, valid or not."""
    keys = [value.keys() for value in values if isinstance(value, dict)]
    known = {name: _keys_of(name) for name in shape_names()}
    return max(known, key=lambda name: sum(len(some & known[name]) for some in keys))


def _unfit(path: Path, error: jsonschema_rs.ValidationError) -> CurateError:
    kind = type(error.kind).__name__
    pointer = "/" + "/".join(map(str, error.instance_path)) if error.instance_path else "the schema"
    if kind == "Format" and error.kind.value in ("regex", {"format": "regex"}):
        hint = "Patterns are ECMA-262; very large repetitions are refused."
        return bad_schema(path, "schema-pattern", f"{one_line(pointer)} is not a usable pattern", hint)
    if kind == "Referencing":
        return bad_schema(path, "missing-ref", one_line(error.message))
    return bad_schema(path, "schema-invalid", f"{one_line(pointer)}: {one_line(error.message)}")


_TEXT_FIELDS = frozenset(
    {"prompt", "completion", "system", "messages", "tools", "text", "chosen", "rejected", "answers"}
)


def _view_of(path: Path, schema: Json) -> View | None:
    declared = schema.get("x-record") if isinstance(schema, dict) else None
    if declared is None:
        return conventional_view(schema)
    if not isinstance(declared, dict):
        raise bad_schema(path, "x-record", "must be an object of JSON pointers")
    for name, pointer in declared.items():
        if name != "prompt" and name not in SINGLE_FIELDS:
            hint = f"Known: prompt, {', '.join(SINGLE_FIELDS)}."
            raise bad_schema(path, "x-record", f"unknown key {one_line(name, 60)!r}", hint)
        pointers = pointer if name == "prompt" and isinstance(pointer, list) else [pointer]
        if not all(isinstance(p, str) and p.startswith("/") for p in pointers):
            raise bad_schema(path, "x-record", f'{name} must be a JSON pointer such as "/answer"')
        # What a decision and a frozen test are about is the text of a line, which these keys are no part of.
        if name in _TEXT_FIELDS and not BOOKKEEPING.isdisjoint(parts_of(p)[0] for p in pointers):
            hint = f"Give the key another name than {', '.join(sorted(BOOKKEEPING))}."
            raise bad_schema(path, "x-record", f"{name} is in a key that says something about a record", hint)
    if not declared.keys() & {"messages", "text", "completion", "chosen", "answers"}:
        raise bad_schema(path, "x-record", "names none of messages, completion, text, chosen and answers")
    return View(declared)


# What of a record is compared. Every search for equal records (validation by digests, dedupe by keys) takes it from
# here, so that both mean the same by "the same record" and by "the same question". Ids, labels and metadata never
# count.


class Parts(NamedTuple):
    """The texts of a record: ``num_question_texts`` of the question, one of the answer, one raw, and later turns.

    Two records are the same when their texts are, once normalised, and their ``mark``, of 16 bytes: roles, tools,
    calls, and what else is in a turn. Two questions are the same when these texts and their ``question_mark`` are.
    """

    texts: list[str]
    num_question_texts: int
    question_mark: bytes
    mark: bytes


def record_parts(record: Record) -> Parts:
    """Return the texts of a record apart: system, instruction, input or each turn, then the answer."""
    turns = record.messages
    if not turns:
        return Parts([record.system, record.prompt, record.completion, record.text], 2, *marks_of((), 0, 2))
    texts: list[str] = []
    roles: list[str] = []
    last = len(turns)
    # Two records that ask and answer the same are alike, whatever was thought in between.
    for index, turn in enumerate(map(without_reasoning, turns)):
        role, text = turn.get("role"), turn.get("content")
        if role == "assistant":
            last = index
        if type(text) is not str or type(role) is not str or len(turn) != 2:
            role, text = _structure_of(turn), text_of(turn)
        texts.append(text)
        roles.append(role)
    num_question_texts = last
    if record.prompt_parts and last:
        texts[last - 1 : last] = record.prompt_parts
        num_question_texts += len(record.prompt_parts) - 1
    if last == len(turns):
        texts.append("")
    texts.insert(num_question_texts + 1, record.text)
    tools = blake2b(canonical([dict(tool) for tool in record.tools])).digest() if record.tools else b""
    if record.answers:
        # What follows the answer must be equal for two records to repeat one another, and so must the other answers.
        texts.append(record.text)
        roles.append(canonical([answer.rating for answer in record.answers]).decode())
    return Parts(texts, num_question_texts, *marks_of(tuple(roles), last, num_question_texts, tools))


class AnswerKeys(NamedTuple):
    """What is compared of the answers of a preference record: keys of 64 bits, and lengths in characters.

    Of a chosen and a rejected answer, or of the best and the worst. The key of one that is not there is 0, as are both
    where no answer is better than another.
    """

    chosen: int
    rejected: int
    num_chosen: int
    num_rejected: int


def answer_keys(record: Record) -> AnswerKeys | None:
    """Return what is compared of the answers of a record; None where it is no preference."""
    if not record.answers:
        return None
    best, worst = record.answers[0], record.answers[-1]
    said = ["\n".join(map(text_of, answer.messages)) for answer in (best, worst)]
    keys = [int.from_bytes(blake2b(normalised(text).encode("utf-8", "surrogatepass")).digest()[:8]) for text in said]
    is_pair, is_good = best.rating > worst.rating, len(record.answers) == 1 and best.rating > 0
    is_bad = len(record.answers) == 1 and not is_good
    return AnswerKeys(
        keys[0] if is_pair or is_good else 0, keys[1] if is_pair or is_bad else 0, len(said[0]), len(said[1])
    )


def digests_of(record: Record) -> tuple[bytes, bytes]:
    """Return 16-byte digests of the question of a record, empty where it has none, and of all that it teaches."""
    texts, num_question_texts, question_mark, mark = record_parts(record)
    texts = [normalised(text) for text in texts]
    question_text = "\0".join(texts[:num_question_texts])
    digest = blake2b(question_mark + question_text.encode("utf-8", "surrogatepass"), digest_size=16)
    # A question of empty texts asks nothing.
    question = digest.digest() if len(question_text) >= max(1, num_question_texts) else b""
    # A digest goes on where it stood: the question is the beginning of all that is said.
    digest.update(mark + "\0".join(texts[num_question_texts:]).encode("utf-8", "surrogatepass"))
    return question, digest.digest()


def said_digest(messages: Iterable[Mapping[str, Json]], text: str) -> str:
    """Return the digest of what a record asks and answers, 32 hex digits; of its raw text where it asks nothing.

    What differs in case, width, blanks, the stop at its end or the system text says the same.
    """
    turns = [turn for turn in messages if turn.get("role") != "system"]
    said = [f"{turn.get('role')}: {_plain(turn.get('content'))}" for turn in turns] or [_plain(text)]
    # No plain text has a line end.
    return blake2b("\n".join(said).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _plain(content: Json) -> str:
    return normalised(content if isinstance(content, str) else canonical(content).decode()).rstrip(".?! ")


def _structure_of(turn: Mapping[str, Json]) -> str:
    """Return all of a turn but its text: role, calls, names, and parts that are no text."""
    rest = dict(turn)
    content = rest.get("content")
    if content is None or type(content) is str:
        rest.pop("content", None)
    if isinstance(content, list):
        # The texts in a list of parts are compared as texts.
        rest["content"] = [
            {key: value for key, value in part.items() if key != "text"} if isinstance(part, dict) else part
            for part in content
        ]
    return canonical(rest).decode()


@lru_cache(maxsize=4096)
def marks_of(roles: tuple[str, ...], last: int, num_question_texts: int, tools: bytes = b"") -> tuple[bytes, bytes]:
    """Return digests of all but the texts, of the question and of the whole; ``last`` is the index of the answer."""
    marks = []
    for said in ((str(num_question_texts), *roles[:last]), (str(num_question_texts), str(last), *roles)):
        content = "\0".join(said).encode("utf-8", "surrogatepass")
        marks.append(blake2b(len(content).to_bytes(8, "little") + content + tools, digest_size=16).digest())
    return marks[0], marks[1]
