"""One browser for all of these tests, and one service for those that only read it."""

import pytest

from tests.retrieval.page import served


@pytest.fixture(scope="session")
def browser():
    from tests.retrieval.page import visits

    with visits.chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Where they are served."""
    index = served.make_index(tmp_path_factory.mktemp("photographs"), served.photographs())
    with served.served(index, originals=True, upload_bytes=served.UPLOAD_BYTES) as base:
        yield base
