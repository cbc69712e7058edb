"""What the doctor asked of a node, with the answers: kept as JSON, and read back by the types of `kpx.doctor.facts`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast, get_type_hints

import msgspec

from kpx.doctor.facts import Call, Facts, NotKnown, Reach
from kpx.doctor.reading import pages
from kpx.doctor.reading.pages import Samples
from kpx.tools.cluster import Cluster
from kpx.tools.errors import ToolError
from kpx.tools.kernel import Held
from kpx.trace.document import printable

NOT_TRIED = "connections are tried on the node only"


class Answered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question and its answer, or why there is none: ``not_known``, or ``error``."""

    question: str
    value: msgspec.Raw = msgspec.Raw()
    not_known: str = ""
    error: str = ""


def question(name: str, arguments: Sequence[Any]) -> str:
    """A question as text: the same one gives the same text."""
    return _encoded([name, *arguments]).decode()


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # rules of others hold whatever bytes they like
        return msgspec.json.encode(printable(msgspec.to_builtins(value)))


class Recorder:
    """`Facts` that pass questions on, and keep the answers. No connection is tried."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._kept: dict[str, Answered] = {}

    @property
    def answers(self) -> list[Answered]:
        return list(self._kept.values())

    @property
    def as_facts(self) -> Facts:
        return cast(Facts, self)

    def cluster(self) -> Cluster:
        return self._facts.cluster()  # kept elsewhere: it asks on

    def held(self) -> Held | None:
        return self._facts.held()

    def metrics(self) -> Samples:
        return pages.metrics(self)

    def connect(self, calls: Sequence[Call]) -> list[Reach]:
        raise NotKnown(NOT_TRIED)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        ask = getattr(self._facts, name)

        def asked(*arguments: Any) -> Any:
            text = question(name, arguments)
            try:
                value = ask(*arguments)
            except NotKnown as reason:
                self._kept[text] = Answered(text, not_known=str(reason))
                raise
            except ToolError as error:
                self._kept[text] = Answered(text, error=str(error))
                raise
            self._kept[text] = Answered(text, msgspec.Raw(_encoded(value)))
            return value

        return asked


class Answers:
    """The answers that were kept."""

    def __init__(self, kept: Sequence[Answered]) -> None:
        self._kept = {one.question: one for one in kept}

    def has(self, name: str, *arguments: Any) -> bool:
        return question(name, arguments) in self._kept

    def get(self, name: str, *arguments: Any) -> Any:
        """The answer. Raises what was raised then, and `NotKnown` if it was not asked."""
        found = self._kept.get(question(name, arguments))
        if found is None:
            what = " ".join([name.replace("_", " "), *map(str, arguments)])
            raise NotKnown(f"the bundle does not hold this: {what}")
        if found.not_known:
            raise NotKnown(found.not_known)
        if found.error:
            raise ToolError(found.error)
        return msgspec.json.decode(found.value, type=get_type_hints(getattr(Facts, name))["return"])
