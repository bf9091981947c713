"""One HTML file about a data set: no scripts, nothing fetched, so that it can be sent by mail and opened anywhere."""

from __future__ import annotations

from curate.base.console import visible
from curate.checks.quality.overview import QualityOverview


def html_page(view: QualityOverview, title: str) -> str:
    """Return the page. Names from the data are escaped, and made visible before that."""
    # Only a page needs a template engine.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("curate.checks.quality", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["visible"] = visible
    environment.filters["number"] = _number
    return environment.get_template("page.html.j2").render(view=view, title=title)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.2f}"
