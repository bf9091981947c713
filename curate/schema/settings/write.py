"""Changing `curate.toml`, or a recipe, in place: the keys that change, and nothing else of what somebody wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from curate.base.console import one_line
from curate.base.file_guard import MOST_SETTINGS, inside, read_file
from curate.base.record import CurateError, Json
from curate.schema.settings.read import FILE_NAME, table_of


def settings_table(root: Path, name: str = FILE_NAME) -> dict[str, Any]:
    """Return what curate.toml, or another file of settings of the workspace ``root``, says by itself, unchecked.

    Raises:
        CurateError: E902 when it cannot be read or is not TOML; E914 when it lies outside of the workspace.
    """
    return table_of(_text(root, name), Path(one_line(name)))


def write_values(
    root: Path, section: str, changes: Mapping[str, Json], name: str = FILE_NAME, *, is_trial: bool = False
) -> None:
    """Make ``changes`` in a file of settings as `with_values` does; its access rights stay. A trial writes nothing.

    Raises:
        CurateError: as `settings_table` and `with_values`; E906 when it is not written.
    """
    from curate.base.storage import write_atomic

    text, path = with_values(_text(root, name), section, changes, name), inside(root, root / name)
    if not is_trial:
        write_atomic(path, [text.encode()], mode=path.stat().st_mode & 0o777)


def _text(root: Path, name: str) -> str:
    try:
        return read_file(inside(root, root / name), root, most=MOST_SETTINGS).decode()
    except (OSError, ValueError) as error:
        raise CurateError("E902 bad-settings", f"{one_line(name)}: {error}", "Settings are TOML in UTF-8.") from error


def with_values(text: str, section: str, changes: Mapping[str, Json], name: str = FILE_NAME) -> str:
    """Return TOML ``text`` with ``changes`` made in its table ``section``, at its top where that is empty.

    None takes a key out. Comments, order and line ends stay. Tables in a list are those of before by their key
    ``name``, and only what is different in them is written. The file is called ``name`` in messages.

    Raises:
        CurateError: E902 when this cannot be done without changing more.
    """
    # Few commands write settings.
    import tomllib

    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    where = f"{one_line(name)}: [{section}]" if section else one_line(name)
    hint = f"Set {', '.join(changes)} in it by hand."
    try:
        before = tomllib.loads(text)
        document = tomlkit.parse(text if section else _with_new_keys(text, before, changes))
        if section and section not in document:
            if text.strip():
                document.add(tomlkit.nl())
            is_bare = all(isinstance(value, dict) for value in changes.values())
            document.add(section, tomlkit.table(is_super_table=is_bare))
        table: Any = document[section] if section else document
        for key, value in changes.items():
            if value is None:
                table.pop(key, None)
            else:
                _put(table, key, value)
        after = tomlkit.dumps(document)
        if "\n" in text and text.count("\n") == text.count("\r\n"):
            # New lines come with LF.
            after = after.replace("\r\n", "\n").replace("\n", "\r\n")
        result = tomllib.loads(after)
    except (LookupError, ValueError, TypeError, AttributeError, TOMLKitError) as error:
        raise CurateError("E902 bad-settings", f"{where}: {error}", hint) from error
    new = {**(before.get(section, {}) if section else before), **changes}
    new = {key: value for key, value in new.items() if value is not None}
    wanted = {**before, section: new} if section else new
    if result != wanted or len(_comments(after)) < len(_comments(text)):
        raise CurateError("E902 bad-settings", f"{where} cannot be changed without changing something else", hint)
    return after


def _with_new_keys(text: str, before: Mapping[str, Json], changes: Mapping[str, Json]) -> str:
    """Put the new keys above the first table and the comments that lead to it: tomlkit parts these from their table."""
    import tomlkit

    lines = text.splitlines(keepends=True)
    index = next((number for number, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    while index and (not lines[index - 1].strip() or lines[index - 1].lstrip().startswith("#")):
        index -= 1
    head = "".join(lines[:index])
    new = [key for key, value in changes.items() if value is not None and key not in before]
    head += "\n" if new and head and not head.endswith("\n") else ""
    return head + "".join(f"{key} = {tomlkit.item(changes[key]).as_string()}\n" for key in new) + "".join(lines[index:])


def _put(table: Any, key: str, value: Any) -> None:
    """Set a key; a list of tables is made to say ``value`` table by table."""
    import tomlkit
    from tomlkit.items import Array, InlineTable, Table

    if table.get(key) == value:
        return
    old, is_tables = table.get(key), bool(value) and isinstance(value, list) and isinstance(value[0], dict)
    if isinstance(value, dict):
        trailing: list[Any] = []
        if old is None:
            last = table.value.body[-1][1] if isinstance(table, Table) and table.value.body else None
            above = last if isinstance(last, Table) else table
            if trailing := _pop_trailing(above):
                above.add(tomlkit.nl())
            table[key] = tomlkit.inline_table() if isinstance(table, InlineTable) else tomlkit.table()
        _update(table[key], value)
        _add_all(table[key], trailing)
        return
    known = {item["name"]: item for item in old if isinstance(item, dict)} if isinstance(old, list) else {}
    if not known and not is_tables:
        table[key] = value
        return
    # What stands on one line stays so; the first ones come as tables below the others.
    is_inline = (isinstance(old, Array) and bool(known)) or not isinstance(table, Table) or not value
    tables: list[Any] = []
    for item in value:
        part = known.get(item["name"]) or (tomlkit.inline_table() if is_inline else tomlkit.table())
        _update(part, item)
        tables.append(part)
    if known and [part["name"] for part in tables[: len(known)]] == [*known]:
        # What is only added moves no comment of the others.
        trailing = _pop_trailing(tables[len(known) - 1])
        for part in tables[len(known) :]:
            old.append(part)
        _add_all(tables[-1], trailing)
        return
    new: Any = tomlkit.array().multiline(True) if is_inline else tomlkit.aot()
    for part in tables:
        new.append(part)
    # The comments beside what is gone, or stands elsewhere now, may be about what comes next.
    before = Counter(_comments(old.as_string() if known else ""))
    lost = [*(before - Counter(_comments(new.as_string()))).elements()]
    if is_inline:
        for comment in lost:
            new.add_line(comment=comment, indent="    ")
        table[key] = new
        return
    trailing = [tomlkit.comment(comment) for comment in lost]
    if isinstance(old, Array):
        del table[key]
        trailing += _pop_trailing(table)
    table[key] = new
    _add_all(tables[-1], trailing)


def _pop_trailing(table: Any) -> list[Any]:
    """Take out of a table what stands below its last key, which is about what comes next, and return it."""
    from tomlkit.items import Comment, Table, Whitespace

    items: list[Any] = []
    body = table.value.body if isinstance(table, Table) else []
    while body and isinstance(body[-1][1], Comment | Whitespace):
        items.insert(0, body.pop()[1])
    return items


def _add_all(table: Any, items: Iterable[Any]) -> None:
    for item in items:
        table.add(item)


def _update(table: Any, wanted: Mapping[str, Json]) -> None:
    import tomlkit

    for key in [key for key in table if key not in wanted]:
        del table[key]
    trailing = _pop_trailing(table)
    for key, value in wanted.items():
        if key not in table or table[key] != value:
            table[key] = value
            if isinstance(value, dict):
                table[key] = tomlkit.inline_table()
                table[key].update(value)
    _add_all(table, trailing)


def _comments(text: str) -> list[str]:
    """Return the comments that have a line of their own."""
    return [line.strip()[1:].strip() for line in text.splitlines() if line.strip().startswith("#")]
