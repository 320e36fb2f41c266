"""Two workers of Dask, processes of this machine."""

import distributed
import pytest


@pytest.fixture
def dask_client():
    """Its page is on any free port: several of these may run at once."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client
