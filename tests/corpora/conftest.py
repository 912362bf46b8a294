"""What the tests of corpora share."""

import pytest

from tests.corpus_tools import write_small


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The small corpora; to be read only."""
    return write_small(tmp_path_factory.mktemp("whole"))
