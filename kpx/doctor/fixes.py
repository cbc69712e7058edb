"""The fixes that several checks offer."""

from __future__ import annotations

from kpx.doctor.facts import Facts
from kpx.doctor.finding import Fix, Place
from kpx.net import Family
from kpx.trace.result import Hop

_FILE = "/etc/sysctl.d/90-kpx.conf"


def restart(facts: Facts, says: str = "start the proxy anew: it compares all rules with what is wanted") -> Fix:
    """Start the proxy anew: here, or where it is a pod by hand, by ending that."""
    commands = facts.restart()
    return Fix(says, now=commands, place=Place.BY_HAND if commands[0][0] == "kubectl" else Place.NODE)


def sysctl(says: str, name: str, value: int | str, before: str) -> Fix:
    """Set a sysctl, named by its path below /proc/sys, now and at every boot."""
    dotted = dotted_name(name)
    return Fix(
        says,
        now=(("sysctl", "-w", f"{dotted}={value}"),),
        keep=(f"echo '{dotted} = {value}' >> {_FILE}", "sysctl --system"),
        undo=(("sysctl", "-w", f"{dotted}={before}"),),
    )


def dotted_name(name: str) -> str:
    """``net.ipv4.ip_forward``, as sysctl(8) has it: a dot in an interface's name is a slash there."""
    return ".".join(part.replace(".", "/") for part in name.split("/"))


def removal(facts: Facts, family: Family, hop: Hop | None) -> Fix | None:
    """Take away a rule, or the policy, of others; None where it is not found any more."""
    found = facts.removal(family, hop) if hop else None
    if found is None or hop is None:
        return None
    what = "take the rule away" if hop.rule else "let the chain accept what no rule of it decides"
    says = f"{what}, and change it where it comes from too (firewalld, ufw, a policy agent), or it comes back"
    return Fix(says, now=found.commands, undo=found.undo, foreign=True)


def by_hand(says: str, *commands: tuple[str, ...]) -> Fix:
    """Something that is to be changed in the cluster's objects, or in a configuration."""
    return Fix(says, now=commands, place=Place.BY_HAND)
