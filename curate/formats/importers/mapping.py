"""Rows whose fields have other names than ours: columns are mapped, by guess or as the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import ascii_lowercase, ascii_uppercase

from curate.base.record import TRACES, Json, Kind
from curate.formats.importers import ConvertedRow, RowError, cannot_import, importer
from curate.formats.importers._reading import as_list, is_filled, json_name, take_common, turns_of, value_at
from curate.schema.view import PART_JOINT

FIELDS = (
    "id", "system", "instruction", "input", "output", "category", "split", "context", "question", "answer", "text",
    "reasoning", "history", "options", "options_from_0", "options_from_1",
)  # fmt: skip
_GUESSES: dict[str, tuple[str, ...]] = {
    "instruction": (
        "instruction", "prompt", "question", "user_prompt", "user_message", "utterance", "request", "problem",
        "task_description", "source_text", "query", "text", "sentence", "input", "column_1",
    ),
    "output": (
        "output", "response", "answer", "completion", "target", "reply", "assistant", "expected", "expected_output",
        "solution", "target_text", "long_answer", "model_output", "sql", "query", "column_2",
    ),
    "input": (
        "input", "context", "passage", "paragraph", "document", "article", "premise", "background", "history",
        "chat_history", "conversation_history",
    ),
    "category": ("category", "query_category", "task_type", "task", "topic", "skill", "domain", "type", "subject"),
    "system": ("system", "system_prompt", "system_message"),
    "id": ("id", "uid", "uuid", "record_id", "example_id", "question_id", "key"),
    "split": ("split",),
    "history": ("history", "chat_history", "conversation_history"),
    "options": ("options", "choices"),
}  # fmt: skip
# Joins the names of columns of one option each.
OPTIONS_JOINT = "+"
_OPTION = re.compile(r"(options?|choices?|opt|op|ending)_?([a-j]|\d)|()([a-j])")
_GROUNDED = ("context", "question", "answer")
# What the class of a text is called.
CLASSES = ("label", "category", "intent", "class", "sentiment")
# What the two columns of a table without names are called: what is asked, and the answer.
_HEADERLESS = ("column_1", "column_2")
# Names of columns that mean something, as `plain_name` spells them.
KNOWN_COLUMNS = frozenset(
    {*FIELDS, *CLASSES, *(name for names in _GUESSES.values() for name in names), "chosen", "rejected"}
) - {*_HEADERLESS}


def plain_name(column: str) -> str:
    """Return the name of a column in small letters and digits, all else as single underscores: "User prompt!"."""
    return re.sub(r"[^a-z0-9]+", "_", column.strip().lower()).strip("_")


def guess(rows: Sequence[dict[str, Json]]) -> dict[str, str]:
    """Return field -> column for the common names that ``rows`` have; each column is used once."""
    # A file without an answer but with a class (a label, a category) is a classification set: the class is the output.
    # Columns without names are a question and its answer only where there are two, and the first is no count.
    columns = {plain_name(name): name for row in reversed(rows) for name in row}
    if columns.keys() & {*_HEADERLESS} and (len(columns) != len(_HEADERLESS) or _is_count(rows, _HEADERLESS[0])):
        columns = {plain: name for plain, name in columns.items() if plain not in _HEADERLESS}
    mapping: dict[str, str] = {}

    def take(field: str, names: Sequence[str]) -> None:
        for name in names:
            if field not in mapping and name in columns and columns[name] not in mapping.values():
                mapping[field] = columns[name]

    for field in ("instruction", "output"):
        take(field, _GUESSES[field])
    take("output", CLASSES)
    take("output", [name for name in columns if name.startswith("is_")])
    take(
        "history",
        [name for name in _GUESSES["history"] if any(as_list(row.get(columns.get(name, ""))) for row in rows)],
    )
    # One that is always empty, as in Alpaca's rows, is not what is asked with the question.
    filled = {name for row in rows for name, value in row.items() if is_filled(value)}
    take("input", sorted(_GUESSES["input"], key=lambda name: columns.get(name) not in filled))
    for field in ("category", "system", "id", "split", "options"):
        take(field, _GUESSES[field])
    column = mapping.pop("options", "") or _lettered(columns)
    if "output" in mapping and any(options_at(row, column) for row in rows):
        keys = [(str(row.get(mapping["output"])), options_at(row, column)) for row in rows]
        numbers = [(int(key), len(texts)) for key, texts in keys if key.isdecimal() and key not in texts]
        # Whether options are counted from 0 or from 1 is seen where the first, or the last, is the answer.
        base = "_from_0" if any(not key for key, _ in numbers) else "_from_1" if any(k == n for k, n in numbers) else ""
        mapping[f"options{base}"] = column
    return mapping


def _lettered(columns: Mapping[str, str]) -> str:
    """Return the columns of one option each, in order, as A+B+C; "" without any."""
    found: dict[str, dict[str, str]] = {}
    for plain, column in columns.items():
        if match := _OPTION.fullmatch(plain):
            found.setdefault(match[1] or "", {})[match[2] or match[4]] = column
    for options in found.values():
        names = "".join(sorted(options))
        if len(names) > 1 and names.startswith(("a", "0", "1")) and names in f"0123456789{ascii_lowercase}":
            return OPTIONS_JOINT.join(options[name] for name in names)
    return ""


def is_all_asked(row: dict[str, Json], *names: str) -> bool:
    """Whether what is asked stands in the columns ``names`` alone: no passage, system text, earlier turn or option."""
    columns = {plain_name(name): name for name in row}
    asked = (columns.get(name) for field in ("input", "system", "history", "options") for name in _GUESSES[field])
    return {*asked} <= {None, *names} and not _lettered(columns)


def options_at(row: Mapping[str, Json], column: str) -> list[str]:
    """Return the texts of options: of a list, an object with a list of texts, or several columns; empty without any."""
    value = value_at(row, column)
    texts = value.get("text") if isinstance(value, dict) else value
    if value is None and OPTIONS_JOINT in column:
        texts = [value_at(row, name) for name in column.split(OPTIONS_JOINT)]
        while texts and not is_filled(texts[-1]):
            texts.pop()
        texts = [str(text) if isinstance(text, int | float) else text for text in texts]
    return texts if isinstance(texts, list) and all(isinstance(text, str) for text in texts) else []


def _with_options(texts: dict[str, str], field: str, options: list[str], answer: Json) -> None:
    """Put the options of a question behind it, and the letter of one for the number of it.

    Raises:
        RowError: there are none, or the answer is a number of which nobody knows what it counts from.
    """
    asked = "question" if "question" in texts else "instruction"
    said = "answer" if asked == "question" else "output"
    if not options or len(options) > len(ascii_uppercase):
        raise RowError("its options are no list of texts")
    lines = (f"{letter}. {text}" for letter, text in zip(ascii_uppercase, options, strict=False))
    texts[asked] = "\n".join([texts.get(asked, ""), *lines])
    if str(answer).isdecimal() and answer not in options:
        index = int(str(answer)) - int(field[-1]) if field != "options" else -1
        if not 0 <= index < len(options):
            raise RowError("its answer is the number of an option: --map options_from_0=... or options_from_1=...")
        texts[said] = ascii_uppercase[index]


def _is_count(rows: Sequence[dict[str, Json]], column: str) -> bool:
    """Whether a column numbers the rows, from 0 or from 1."""
    cells = [str(row.get(column)) for row in rows]
    return len(cells) > 1 and any(cells == [str(n + first) for n in range(len(cells))] for first in (0, 1))


def parse_map(text: str) -> dict[str, str]:
    """Return field -> column from "instruction=question,output=answer"; a column may be a JSON pointer ("/answers/0").

    Raises:
        CurateError: E908 when a part is not FIELD=COLUMN or names a field twice or one that does not exist.
    """
    mapping: dict[str, str] = {}
    for part in text.split(","):
        field, sign, column = (piece.strip() for piece in part.partition("="))
        if not sign or not column or field not in FIELDS or field in mapping:
            raise cannot_import(
                f"--map {part!r} is not FIELD=COLUMN with each field named once",
                f"Fields are {', '.join(FIELDS)}; for example --map instruction=question,output=answer. Conversations "
                "are read whole: name the column messages or conversations, or use --format.",
            )
        mapping[field] = column
    return mapping


def _recognise(rows: Sequence[dict[str, Json]]) -> float:
    mapping = guess(rows)
    if "instruction" not in mapping or "output" not in mapping:
        return 0.0
    good = 0
    for row in rows:
        try:
            read(row, mapping)
        except RowError:
            continue
        good += 1
    return 0.6 * good / len(rows)


@importer(
    "mapping",
    recognise=_recognise,
    guess=lambda rows, given: dict(given) or guess(rows),
    samples=[
        {"question": "How many legs has an ant?", "answer": "6"},
        {"instruction": "When?", "context": "Built in 1901.", "response": "In 1901.", "category": "closed_qa"},
        {"text": "Where is my card?", "category": "card_arrival"},
    ],
)
def read(row: dict[str, Json], mapping: Mapping[str, str]) -> ConvertedRow:
    """Rows with other names: FIELD=COLUMN pairs say which column is the instruction, the output and so on."""
    used = {column for column in mapping.values() if not column.startswith("/")}
    columns = _columns_of(mapping)
    line, extra = take_common({key: value for key, value in row.items() if key not in used}, (), has_our_names=False)
    texts: dict[str, str] = {}
    history = value_at(row, mapping.get("history", ""))
    earlier = earlier_turns(history, mapping["history"]) if is_filled(history) else []
    for field, column in mapping.items():
        value = value_at(row, column)
        if field.startswith("options") or field == "history":
            extra |= {column: value} if column in row and not (earlier and field == "history") else {}
            continue
        if value is None and field not in ("instruction", "output", "question", "answer", "text"):
            if column in row:
                extra[column] = None
            continue
        texts[field] = _text(value, field, column)
        # What a pointer leads into stays whole in what is left over.
        if texts[field] != value and column in used:
            extra[column] = value
    for field in [name for name in mapping if name.startswith("options")]:
        answer = value_at(row, mapping.get("output") or mapping.get("answer", ""))
        _with_options(texts, field, options_at(row, mapping[field]), answer)
    taken, left = take_common({name: texts.pop(name) for name in ("id", "category", "split") if name in texts}, ())
    line |= taken
    # What a line's split cannot be.
    extra |= {mapping[name]: value for name, value in left.items()}
    is_talk = bool(earlier) or "reasoning" in texts
    if is_talk and ("output" not in texts or texts.keys() & {"text", "question"}):
        raise RowError("the mapping names reasoning or history, which stand with an instruction and its output alone")
    kind: Kind = "domain"
    said: dict[str, Json]
    if "text" in texts:
        said = {"text": texts["text"]}
    elif "question" in texts:
        said = {name: texts.get(name, "") for name in _GROUNDED}
    elif not {"instruction", "output"} <= texts.keys():
        raise RowError("the mapping names no instruction and output, no question and answer, and no text")
    else:
        if "context" in texts:
            texts.setdefault("input", texts["context"])
        kind, said = "chat", {"messages": conversation(texts, earlier)}
        if not is_talk:
            names = ("system", "instruction", "input", "output")
            kind, said = "instruction", {name: texts[name] for name in names if name in texts}
    return ConvertedRow(kind, line | said, extra, columns=columns)


def _columns_of(mapping: Mapping[str, str]) -> dict[str, str]:
    """Return what each column becomes."""
    columns: dict[str, str] = {}
    for field, column in mapping.items():
        for part in column.split(OPTIONS_JOINT) if field.startswith("options") else [column]:
            name = field if part == column else f"option {part}"
            columns[part] = f"{columns[part]} and {name}" if part in columns else name
    return columns


def conversation(texts: Mapping[str, str], earlier: Sequence[Json] = ()) -> list[Json]:
    """Return earlier turns, an instruction, the reasoning and the answer as a conversation, which holds all of them."""
    system = [{"role": "system", "content": texts["system"]}] if texts.get("system") else []
    prompt = PART_JOINT.join(text for name in ("instruction", "input") if (text := texts.get(name)))
    trace = {TRACES[0]: texts["reasoning"]} if texts.get("reasoning") else {}
    answer = {"role": "assistant", "content": texts["output"]} | trace
    return [*system, *earlier, {"role": "user", "content": prompt}, answer]


def earlier_turns(history: Json, name: str) -> list[Json]:
    """Return what was said before: pairs of a question and an answer, or messages.

    Raises:
        RowError: it is neither.
    """
    if isinstance(history, dict) or any(isinstance(turn, dict) for turn in as_list(history)):
        return [*turns_of(history, name)]
    turns: list[Json] = []
    for pair in history if isinstance(history, list) else [history]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise RowError(f"{name!r} is no list of pairs of texts, nor of messages")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns


def _text(value: Json, field: str, column: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if value is None:
        raise RowError(f"{column!r}, mapped to {field}, is missing or null")
    raise RowError(
        f"{column!r}, mapped to {field}, is {json_name(value)}; name a part of it, as in --map {field}=/{column}/0"
    )
