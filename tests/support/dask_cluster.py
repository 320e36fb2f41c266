"""Two workers of Dask, processes of this machine."""

import distributed
import pytest


@pytest.fixture  # not kept: it starts workers anew that a test has killed, while others run
def dask_client():
    """Without its page on the network, and without a word on standard error."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client
