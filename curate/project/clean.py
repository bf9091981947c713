"""What is kept of a validation in which nothing failed, so that an export of the same need not find it out again.

It is kept beside the columns of the records, by all that has a say in it. Where that cannot be told, nothing is kept:
with decisions, plug-ins, a baseline, or schemas in other files.
"""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from curate.base.file_guard import stamp_of
from curate.base.packs import MemoryPack, Pack
from curate.base.record import CurateError, canonical
from curate.checks import discover
from curate.checks.runner import ExaminerSpec, Verdict, baseline_path
from curate.checks.runner.changes import unmerged_findings
from curate.checks.runner.parts import file_name, known_parts
from curate.checks.runner.select import select_checks
from curate.project.data import ProjectData
from curate.schema.settings import Settings, settings_adapter


def settings_digest(settings: Settings) -> str:
    """Return a digest of what has a say in records; keys of the terminal and plug-ins change none."""
    fields = settings_adapter().dump_python(settings, mode="json", by_alias=True, exclude={"keys", "plugins"})
    return hashlib.sha256(canonical(fields)).hexdigest()


def known_verdict(data: ProjectData) -> Verdict | None:
    """Return the verdict, without its findings, of an earlier validation of the very same in which nothing failed.

    All files are read for that, and compared by digest.
    """
    table = data.table
    if table is None or unmerged_findings(data.files(), data.root) or not table.is_as_read():
        return None
    key = _key(data, data.settings, table.pack)
    entry = table.pack.get(key) if key else None
    return Verdict(findings=[], **entry.about) if entry else None


def keep_verdict(data: ProjectData, spec: ExaminerSpec, verdict: Verdict) -> None:
    """Keep the verdict of a validation of all files that looked for no leaks, or found none, if nothing failed."""
    if spec.cache is None or spec.changes is not None or verdict.num_failing or _num_leaks(verdict):
        return
    with suppress(CurateError, OSError):
        pack = spec.cache.opened()
        if key := _key(data, spec.settings, pack):
            about = asdict(replace(verdict, findings=[]))
            del about["findings"]
            pack.append(key, about, {}, np.zeros(0, np.uint64))


def _num_leaks(verdict: Verdict) -> int:
    codes = [code for code, check in discover().items() if check.on_pair]
    return sum(verdict.counts.get(code, 0) + verdict.forgiven.get(code, 0) for code in codes)


def _key(data: ProjectData, settings: Settings, pack: Pack | MemoryPack) -> bytes | None:
    """Return the key of a verdict: of the lines of all files, of the rules, and of what they are checked with."""
    selection = select_checks(settings)
    functions = [f for c in discover().values() for f in (c.on_record, c.on_dataset, c.condition) if f]
    if (
        data.decisions.names
        or baseline_path(settings, data.root)
        or selection.doubt_checks
        or any(category.schema_ for category in settings.categories.values())
        or not all(function.__module__.startswith("curate.") for function in functions)
    ):
        return None
    files = []
    for path in data.files():
        name = file_name(path, data.root)
        known = known_parts(pack, stamp_of(path, name))
        if known is None:
            return None
        files.append([name, known.num_lines, *(part.key.hex() for part in known.parts)])
    # Between two releases it is the code of the checks that tells them apart. Without the extra no language is told.
    code = [sys.modules[name].__file__ or "" for name in sorted({function.__module__ for function in functions})]
    tools = [sys.version, find_spec("py3langid") is not None, *(Path(file).stat().st_mtime_ns for file in code)]
    about = [settings_digest(settings), tools, files]
    return blake2b(canonical(about), digest_size=16, person=b"clean").digest()
