"""The runs that all tests of submissions share."""

import pytest

from tests.submission.short_runs import all_runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """The data, and the folders of eight runs; to be read only."""
    top = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELP_CACHE", str(top / "cache"))
        return all_runs(top)
