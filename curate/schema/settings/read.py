"""Settings as they hold: `curate.toml`, with what the environment says laid over it, checked as one."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from functools import cache, lru_cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from curate.base.file_guard import MOST_SETTINGS, FileGuardError, inside, read_file
from curate.base.patterns import lazy_pattern
from curate.base.record import CurateError
from curate.schema.settings.model import Settings

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

FILE_NAME = "curate.toml"
# `CURATE_SPLIT__SEED=7` sets ``split.seed``; the value is TOML, or plain text where it is not.
PREFIX = "CURATE_"

_NO_SETTINGS = frozenset({"CURATE_ANNOTATOR", "CURATE_TRUST_PLUGINS"})
_HINT = "See `curate config schema`."
_RULES = "A line is key = value, each key and each table stands once, and a text stands in quotes."
_UNKNOWN_KEY = "unexpected_keyword_argument"
_MOST_PARTS = 64
# tomllib takes time in the square of a dotted key's parts. The parts are possessive, so that this looks at each once.
_LONG_KEY = lazy_pattern(
    r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){%d}""" % _MOST_PARTS  # noqa: UP031
)
_MOST_LINES = 200
_MOST_FAULTS = 5

KeyPath = tuple[str | int, ...]


# There is no user's own layer on purpose: a data set means the same to everyone who checks it out.


def read_settings(root: Path | None) -> Settings:
    """Read ``root/curate.toml`` and the environment; a folder without one has the default settings, as has None.

    Raises:
        CurateError: E902 with the key, where it was set and a suggestion, when this cannot be read as settings; E960
            when the schema of a category is not there; E914 when a path leads out of ``root``.
    """
    path = root / FILE_NAME if root else None
    text = _text(path) if path else ""
    table = table_of(text, path)
    variables = _variables()
    for keys, (name, value) in variables.items():
        _lay(table, keys, value, name)
    settings = _settings_of(table, text, path, variables) if table else Settings()
    if root is None:
        return settings
    _require_inside(settings, root)
    return _with_contracts(settings, root)


@cache
def settings_adapter() -> TypeAdapter[Settings]:
    """Return what checks tables as settings, and writes settings as tables."""
    # Loading pydantic and making this take longer than checking a small file, and a default needs no check.
    from pydantic import TypeAdapter

    return TypeAdapter(Settings)


def _settings_of(
    table: dict[str, Any], text: str, path: Path | None, variables: Mapping[KeyPath, tuple[str, Any]]
) -> Settings:
    from pydantic import ValidationError

    try:
        return settings_adapter().validate_python(table)
    except ValidationError as error:
        faults = error.errors()
        message = "; ".join(_render_fault(fault, text, path, variables) for fault in faults[:_MOST_FAULTS])
        message += f"; and {len(faults) - _MOST_FAULTS:,} more" if len(faults) > _MOST_FAULTS else ""
        raise CurateError("E902 bad-settings", message, _HINT) from error


def _require_inside(settings: Settings, root: Path) -> None:
    named = {
        "recipe": settings.recipe,
        "label.gold": settings.label.gold,
        "label.guide": settings.label.guide,
        "plugins.path": settings.plugins.path,
    }
    for key, name in named.items():
        if name:
            try:
                inside(root, root / name)
            except CurateError as error:
                raise CurateError(error.code, f"{key}: {error.message}", error.hint) from error


def _with_contracts(settings: Settings, root: Path) -> Settings:
    """Return the settings with the folder that the schemas of categories are in, and make sure that they are there."""
    schemas = {name: category.schema_ for name, category in settings.categories.items() if category.schema_}
    for name, schema in schemas.items():
        where = f"the contract of category {name!r}: {schema!r}"
        # Also a NUL and a loop of links end here.
        try:
            path = (root / schema).resolve()
            is_there = path.is_file()
        except (ValueError, RuntimeError, OSError) as error:
            raise CurateError("E960 bad-contract", f"{where} is no path") from error
        if not path.is_relative_to(root.resolve()):
            raise CurateError("E960 bad-contract", f"{where} lies outside the workspace", "Copy the schema into it.")
        if not is_there:
            raise CurateError("E960 bad-contract", f"{where} does not exist", "Name a file relative to the workspace.")
    return settings.at(root) if schemas or settings.plugins.path else settings


def root_of(path: Path) -> Path | None:
    """Return the workspace that a file, or a folder within one, lies in; None where it lies in none."""
    return next((folder for folder in path.absolute().parents if (folder / FILE_NAME).is_file()), None)


def origins(root: Path) -> dict[KeyPath, str]:
    """Return where each setting that is not the default was set: ``curate.toml:LINE``, or the variable's name.

    Raises:
        CurateError: E902 as `read_settings`.
    """
    text = _text(root / FILE_NAME)
    sources: dict[KeyPath, str] = {}
    for keys in _leaves(table_of(text, root / FILE_NAME)):
        line = line_of(text, keys)
        sources[keys] = f"{FILE_NAME}:{line}" if line else FILE_NAME
    for keys, (name, _) in _variables().items():
        # A variable for a table takes the place of all keys in it.
        sources = {other: origin for other, origin in sources.items() if other[: len(keys)] != keys}
        sources[keys] = name
    return sources


def locations_of(path: Path, names: Collection[str]) -> list[tuple[int, str]]:
    """Return where a TOML file has one of ``names`` as a key within a table, or as a value: 1-based line, and keys.

    Raises:
        CurateError: E902 when the file cannot be read as TOML.
    """
    text = _text(path)
    table = table_of(text, path)
    return [
        (line_of(text, keys), ".".join(map(str, keys)))
        for keys in sorted(_all(table, ()), key=lambda keys: line_of(text, keys))
        if (keys[1:] and keys[-1] in names) or reduce(lambda value, key: value[key], keys, cast("Any", table)) in names
    ]


def foreign_variables() -> list[str]:
    """Return the variables that begin like ours and are no settings, so that a misspelled one can be seen."""
    others = (name for name in os.environ if name.startswith(PREFIX) and name not in _NO_SETTINGS)
    return sorted(name for name in others if _first(name) not in _fields(Settings))


def line_of(text: str, keys: KeyPath) -> int:
    """Return the 1-based line of TOML ``text`` on which the key at ``keys`` begins, 0 where that cannot be told."""
    return _line_numbers(text).get(keys, 0)


@lru_cache(maxsize=1)
def _line_numbers(text: str) -> dict[KeyPath, int]:
    """Return the line of every key and list item of a TOML text that can be read."""
    # A statement is as many lines as can be read by themselves, so that the time is that of reading the text once.
    # Where one is longer than `_MOST_LINES`, no more is told.
    import tomllib

    numbers: dict[KeyPath, int] = {}
    tables: dict[KeyPath, int] = {}
    above: KeyPath = ()
    start, lines = 0, text.split("\n")
    for number in range(1, len(lines) + 1):
        if number - start > _MOST_LINES:
            break
        statement = "\n".join(lines[start:number]) + "\n"
        try:
            table = tomllib.loads(statement)
        except (ValueError, RecursionError):
            continue
        if statement.lstrip().startswith("["):
            above = _header(table, tables)
            numbers.setdefault(above, start + 1)
        else:
            for keys in _all(table, above):
                numbers.setdefault(keys, start + 1)
        start = number
    return numbers


def _header(table: dict[str, Any], tables: dict[KeyPath, int]) -> KeyPath:
    """Return the place that a header opens; ``tables`` counts those of each array of tables."""
    keys: KeyPath = ()
    inner: Any = table
    while inner:
        key, inner = next(iter(inner.items()))
        keys = (*keys, key)
        if isinstance(inner, list):
            tables[keys] = tables.get(keys, 0) + 1
            inner = inner[0]
        if keys in tables:
            keys = (*keys, tables[keys] - 1)
    return keys


def _all(value: Any, above: KeyPath) -> Iterator[KeyPath]:
    waiting = [(above, value)]
    while waiting:
        keys, inner = waiting.pop()
        if keys != above:
            yield keys
        parts = inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else ()
        waiting += [((*keys, key), part) for key, part in parts]


def _text(path: Path) -> str:
    try:
        return read_file(path, most=MOST_SETTINGS).decode()
    except FileNotFoundError:
        return ""
    except FileGuardError as error:
        raise CurateError("E902 bad-settings", f"{path}: {error}", error.hint) from error
    except (OSError, ValueError) as error:
        raise CurateError("E902 bad-settings", f"{path}: {error}", "Settings are TOML in UTF-8.") from error


def table_of(text: str, path: Path | None) -> dict[str, Any]:
    """Return the tables of TOML ``text``, unchecked; messages name ``path``.

    Raises:
        CurateError: E902 when it is not TOML.
    """
    if not text:
        return {}
    import tomllib

    if long_key := _LONG_KEY.search(text):
        line = text.count("\n", 0, long_key.start()) + 1
        message = f"{path}:{line}: a key of more than {_MOST_PARTS} parts"
        raise CurateError("E902 bad-settings", message, "Settings are TOML in UTF-8.")
    try:
        return tomllib.loads(text)
    # A TOML error is a ValueError, and so is a number of 5,000 digits; lists can nest as deep as the file is long.
    except (ValueError, RecursionError) as error:
        raise CurateError("E902 bad-settings", f"{path} is not TOML: {error}", _RULES) from error


def _fields(part: type) -> dict[str, Field[Any]]:
    return {field.metadata.get("alias", field.name): field for field in fields(part)}


def _first(name: str) -> str:
    return name.removeprefix(PREFIX).split("__")[0].lower()


def _variables() -> dict[KeyPath, tuple[str, Any]]:
    """Return what the environment sets, by place: the variable and its value."""
    variables: dict[KeyPath, tuple[str, Any]] = {}
    known = _fields(Settings)
    # Sorted, so that a variable that sets a whole table comes before those that set a key in it.
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and _first(name) in known:
            keys = tuple(name.removeprefix(PREFIX).lower().replace("-", "_").split("__"))
            variables[keys] = (name, _value(os.environ[name]))
    return variables


def _value(text: str) -> Any:
    import tomllib

    # A text needs no quotes here, because a shell has its own.
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _lay(table: dict[str, Any], keys: KeyPath, value: Any, name: str) -> None:
    inner: Any = table
    for key in keys[:-1]:
        inner = inner.setdefault(str(key), {})
        if not isinstance(inner, dict):
            raise CurateError("E902 bad-settings", f"{name}: {key} is not a table", _HINT)
    inner[str(keys[-1])] = value


def _leaves(table: Mapping[str, Any], above: KeyPath = ()) -> list[KeyPath]:
    leaves: list[KeyPath] = []
    for key, value in table.items():
        here = (*above, key)
        leaves += _leaves(value, here) if isinstance(value, Mapping) and value else [here]
    return leaves


def _render_fault(
    fault: ErrorDetails, text: str, path: Path | None, variables: Mapping[KeyPath, tuple[str, Any]]
) -> str:
    keys = fault["loc"]
    name = next((name for at, (name, _) in variables.items() if keys[: len(at)] == at), "")
    line = 0 if name else line_of(text, keys)
    where = name or f"{path}:{line}" if line or name else str(path)
    return f"{where}: {'.'.join(map(str, keys))}: {_message(fault)}{_suggestion(fault)}"


def _message(fault: ErrorDetails) -> str:
    if fault["type"] == _UNKNOWN_KEY:
        return "Extra inputs are not permitted"
    given = fault["input"]
    value_text = f", not {json.dumps(given, ensure_ascii=False)[:80]}" if isinstance(given, int | float | str) else ""
    return fault["msg"].removeprefix("Value error, ") + value_text


def _suggestion(fault: ErrorDetails) -> str:
    if fault["type"] != _UNKNOWN_KEY:
        return ""
    # Only a bad call needs it.
    from difflib import get_close_matches

    # Down the tables by the path of the fault, to the one whose key was misspelled.
    table: type = Settings
    for key in fault["loc"][:-1]:
        field = _fields(table).get(str(key))
        inner = get_type_hints(table)[field.name] if field else None
        if not (isinstance(inner, type) and is_dataclass(inner)):
            return ""
        table = inner
    known = list(_fields(table))
    near = get_close_matches(str(fault["loc"][-1]), known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f" (known: {', '.join(known)})"
