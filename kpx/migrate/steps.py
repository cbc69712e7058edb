"""The commands of a move, in their order, each with the one that takes it back. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """What is done, by which command, and how to take it back."""

    what: str
    command: str
    undo: str = ""


_OFF = '{"spec":{"template":{"spec":{"nodeSelector":{"kpx":"has-not-taken-over"}}}}}'
_ON = '{"spec":{"template":{"spec":{"nodeSelector":{"kpx":null}}}}}'
_KUBE_PROXY = "kubectl -n kube-system patch daemonset kube-proxy -p"


def steps(before: str, after: str) -> list[Step]:
    """The move of a cluster that kubeadm made: to kpx in the mode that it has, then to the mode that is wanted."""
    found = [
        Step(
            "keep what there is",
            "kubectl -n kube-system get configmap,daemonset kube-proxy -o yaml > kube-proxy-before.yaml",
        ),
        Step(
            "start kpx with kube-proxy's configuration: on each node it waits for kube-proxy to end",
            "kubectl apply -k deploy/overlays/kubeadm",
            "kubectl delete -k deploy/overlays/kubeadm",
        ),
        Step(
            "end kube-proxy everywhere: its rules stay, and kpx takes them over as they are",
            f"{_KUBE_PROXY} '{_OFF}'",
            f"{_KUBE_PROXY} '{_ON}'",
        ),
        Step("see that every node serves", "kubectl -n kube-system rollout status daemonset kpx"),
    ]
    if before != after:
        found.append(
            Step(
                f"change the mode to {after}: set it in the configuration, then replace the pods",
                "kubectl -n kube-system edit configmap kube-proxy && "
                "kubectl -n kube-system rollout restart daemonset kpx",
                "the same, with the mode that it was",
            )
        )
    return found
