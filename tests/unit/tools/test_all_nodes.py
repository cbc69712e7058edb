"""Which nodes are asked, with which words, and what their statuses come to."""

from __future__ import annotations

import pytest

from kpx.cluster.everywhere import Answer, Target, targets
from kpx.cluster.kubernetes.exec import Finished
from kpx.cluster.kubernetes.pods import Pod
from kpx.tools.all_nodes import remote, status


def test_every_node_is_a_target_and_a_pod_that_runs_comes_first() -> None:
    pods = [
        Pod("old", "a", "Running"),
        Pod("new", "a", "Pending"),
        Pod("failed", "b", "Failed"),
        Pod("nowhere", "", "Pending"),
        Pod("on a node that is not listed", "d", "Running"),
    ]
    assert targets(["c", "b", "a"], pods) == [
        Target("a", "old"),
        Target("b", "failed", "the pod failed does not run, it is Failed"),
        Target("c", "", "no pod of kpx is on this node"),
        Target("d", "on a node that is not listed"),
    ]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("services web --all-nodes", "services web"),
        ("services --kubeconfig x --timeout=3 --kpx-pods a/b=c -n shop", "services -n shop"),
        ("services --all-nodes --kubeconfig", "services"),
    ],
)
def test_what_says_where_to_ask_is_not_passed_on(given: str, sent: str) -> None:
    assert remote(given.split()) == sent.split()


@pytest.mark.parametrize(
    ("statuses", "worst"),
    [([], 0), ([0, 0], 0), ([0, 4], 4), ([4, 2], 2), ([0, None], 1), ([1, 3, None], 3), ([0, 137], 1)],
)
def test_the_worst_status_counts(statuses: list[int | None], worst: int) -> None:
    answers = [Answer("n", "p", None if one is None else Finished(one, b"", b"")) for one in statuses]
    assert status(answers) == worst
