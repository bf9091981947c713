"""What the tests of Browse share."""

from __future__ import annotations

import pytest
from browsing import SETTINGS, lines

from curate.project.workspace import Workspace


@pytest.fixture
def workspace(make_workspace) -> Workspace:
    """A support desk with questions to answer."""
    return make_workspace(lines(), settings=SETTINGS)
