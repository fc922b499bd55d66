"""One browser for all of these tests, and one service for those that only read it.

It is closed with the last of them: while Playwright runs, others cannot run an event loop.
"""

import pytest

from tests.retrieval.page import served


@pytest.fixture(scope="package")
def browser():
    from tests.retrieval.page import visits

    with visits.chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def photographs(tmp_path_factory):
    """Where they are served."""
    index = served.make_index(tmp_path_factory.mktemp("photographs"), served.photographs())
    with served.served(index, originals=True, upload_bytes=served.UPLOAD_BYTES) as base:
        yield base
