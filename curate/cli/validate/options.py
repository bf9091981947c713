"""What one call of `curate validate` asks for, and which wishes do not go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

STDIN = "-"


@dataclass(frozen=True)
class Options:
    """The options as click read them; each is explained in the help of the command."""

    paths: tuple[str, ...]
    schema: str
    select: tuple[str, ...]
    ignore: tuple[str, ...]
    baseline: Path | None
    update_baseline: bool
    since: str
    target: str | None
    model: Path | None
    max_length: int | None
    fix: bool
    unsafe_fixes: bool
    diff: bool
    watch: bool
    stdin_filename: str
    format_: str
    output: Path | None
    exit_zero: bool
    explain: bool
    statistics: bool
    show_values: bool
    jobs: int
    limit: int
    engine: str = "local"
    ray_address: str = ""

    @property
    def is_stdin(self) -> bool:
        """Whether the lines come from standard input."""
        return STDIN in self.paths

    @property
    def is_scaled(self) -> bool:
        """Whether the work may go past this process and this machine."""
        return self.engine != "local"

    @property
    def is_repair(self) -> bool:
        """Whether lines are to be mended, or shown as they would be."""
        return self.fix or self.unsafe_fixes or self.diff

    def refuse_contradictions(self) -> None:
        """Raise a click.UsageError for wishes that do not go together."""
        mends = self.is_repair
        for is_wrong, why in (
            (self.is_stdin and len(self.paths) > 1, "'-' stands alone: standard input is checked by itself"),
            (bool(self.stdin_filename) and not self.is_stdin, "--stdin-filename names what '-' reads"),
            (self.is_stdin and mends, "what comes from standard input cannot be mended in place"),
            (self.is_stdin and self.watch, "standard input cannot be watched"),
            (self.is_stdin and bool(self.since), "standard input has no history for --since"),
            (self.watch and mends, "--watch would answer its own mending"),
            (self.watch and self.update_baseline, "--watch would forgive every fault as it is made"),
            (self.update_baseline and bool(self.since), "a baseline is of all lines, not of those since a commit"),
            (bool(self.since) and mends, "mending is done to whole files, not to the lines since a commit"),
            (self.update_baseline and mends, "mend first, then update the baseline"),
            (self.is_scaled and self.is_stdin, "standard input is checked on this machine: --engine local"),
            (self.is_scaled and self.watch, "--watch looks at files on this machine: --engine local"),
            (self.is_scaled and mends, "lines are mended on this machine: --engine local"),
            (bool(self.ray_address) and not self.is_scaled, "--ray-address needs --engine daft"),
            (self.model is None and self.max_length is not None, "--max-length is in tokens of a --model"),
        ):
            if is_wrong:
                raise click.UsageError(why)
