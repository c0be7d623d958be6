import pipeloom_zigzag

from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.testing import Subject, conformance_tests

test_it_keeps_to_the_contract = conformance_tests("zigzag")


def test_the_first_and_the_last_stage_share_node_0():
    config = Subject("zigzag").config
    placed = pipeloom_zigzag.pipeloom_place(Cluster(2, 2), Mesh(4, 1), config)
    assert placed.stages == ((0,), (2,), (3,), (1,))
    assert placed.summary().startswith("pipeline hops: 2 between nodes, 1 inside")
