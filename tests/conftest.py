"""What all tests share: one cache for the embedded sample, out of the user's own."""
import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def sample_cache(tmp_path_factory):
    """``$PIPELOOM_CACHE`` of the session, subprocesses included: a sample that two tests need is built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELOOM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield os.environ["PIPELOOM_CACHE"]
