"""Addresses of clusters. What runs on one is in `tests/test_doors.py`."""

import socket

import pytest

from cifar_pipeline.defs.on_ray import Cluster
from cifar_pipeline.errors import PipelineError


def test_an_address_without_a_cluster_is_one_message():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(PipelineError, match=rf"no Ray cluster answers at http://127.0.0.1:{port} "):
        Cluster(f"http://127.0.0.1:{port}")
