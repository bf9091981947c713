"""What the tests of Browse share."""

from __future__ import annotations

import pytest

from curate.project.data import ProjectData
from tests.curate.tui.browsing import SETTINGS, lines


@pytest.fixture
def workspace(make_workspace) -> ProjectData:
    """A support desk with questions to answer."""
    return make_workspace(lines(), settings=SETTINGS)
