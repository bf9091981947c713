"""What is wrong with a row, and with a template or with rows as one error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from train import say
from train.errors import TrainError

UNRENDERABLE = "E923 bad-rows"


class RowFault(TrainError):  # noqa: N818 - a fault of a row, as a finding is of a line
    """One row cannot be trained or asked; ``reason`` is the same for all rows with this fault."""

    def __init__(self, reason: str, code: str = UNRENDERABLE) -> None:
        super().__init__(code, reason)
        self.reason = reason


class Silent(RowFault):
    """No answer of a record may be trained; such records are set aside and counted."""


def bad_template(fault: RowFault) -> TrainError:
    """Return what is wrong with a template that cannot train a plain question and answer."""
    return TrainError(
        "E922 bad-template", f"the base's chat template cannot train a plain question and answer: {fault.reason}",
        "mend chat_template in the model's folder, or take another base",
    )  # fmt: skip


def listed(faults: Mapping[tuple[str, str], list[str]], num_rows: int) -> TrainError:
    """One error for ``num_rows`` rows: each reason with its count and the first ids."""

    def lines() -> Iterator[str]:
        for (_, reason), ids in faults.items():
            yield f"{len(ids):,} of {num_rows:,} record{'s' if num_rows > 1 else ''}: {reason}: {say.named(ids)}"

    code = next(iter(faults))[0]
    hints = {
        "E924 control-token-in-data": "mend the records, or train them as plain text with allow_special_tokens = true",
        "E925 too-long": "add --set on_too_long=skip to leave them out, --set on_too_long=cut to cut them (both are "
        "counted), or --set max_length=N to allow more tokens; `curate train` takes these after --",
        UNRENDERABLE: "mend the records, take a base whose template has what they need, or leave them out, counted, "
        "with --set on_unrenderable=skip; train preview shows a record",
    }
    return TrainError(code, "\n  ".join(lines()), hints.get(code, "train preview shows a record token by token"))
