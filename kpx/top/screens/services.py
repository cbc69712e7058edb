"""Services, the endpoints of one, and its rules in the kernel."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from kpx.proxier.frontends import ServicePortName
from kpx.tools.services import EndpointRow
from kpx.top.columns import Column
from kpx.top.lines import Line
from kpx.top.pages import service
from kpx.top.screens.service_table import ServiceTable
from kpx.top.screens.table import TableView
from kpx.top.screens.trace import TraceView
from kpx.top.screens.view import TextView
from kpx.top.snapshot import Focus, Service, Snapshot


class ServicesView(ServiceTable):
    """All service ports."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("t", "trace", "Trace")]
    crumb = "Services"

    def focus_on(self) -> Focus:
        return Focus(self.PAGE, visible=tuple(one.port for one in self.table.in_sight))

    def open(self, row: Service) -> None:
        self.app.push_screen(EndpointsView(row.port))

    def action_trace(self) -> None:
        """Trace a packet to the service port that has the cursor."""
        if (row := self.table.current) is not None:
            self.app.push_screen(TraceView(row.port))


class EndpointsView(TableView[EndpointRow]):
    """The endpoints of a service port."""

    PAGE = "services"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Rules", key_display="enter"),
        Binding("t", "trace", "Trace"),
        Binding("f", "flows", "Flows"),
    ]

    def __init__(self, port: ServicePortName) -> None:
        super().__init__(service.BY_ENDPOINT)
        self.port = port
        self.crumb = str(port)

    def focus_on(self) -> Focus:
        return Focus(self.PAGE, visible=(self.port,))

    def columns(self, found: Snapshot) -> Sequence[Column[EndpointRow]]:
        return service.endpoint_columns(found, self.port)

    def made_of(self, found: Snapshot) -> Sequence[object]:
        return (found.services, found.counted, found.flows, found.differences)

    def rows(self, found: Snapshot) -> Iterable[EndpointRow]:
        return service.endpoints(found, self.port)

    def identity(self, row: EndpointRow) -> Hashable:
        return row.ip, row.port

    def search(self, row: EndpointRow) -> str:
        return f"{row.ip}:{row.port}"

    def above(self, found: Snapshot, width: int) -> Sequence[Line]:
        return service.head(found, self.port, width)

    def action_open(self) -> None:
        self.app.push_screen(RulesOfView(self.port))

    def action_trace(self) -> None:
        self.app.push_screen(TraceView(self.port))

    def action_flows(self) -> None:
        self.app.push_screen(FlowsView(self.port))


class RulesOfView(TextView):
    """The rules of a service port, as the kernel holds them."""

    PAGE = "services"

    def __init__(self, port: ServicePortName, crumb: str = "rules") -> None:
        super().__init__()
        self.port = port
        self.crumb = crumb

    def focus_on(self) -> Focus:
        return Focus(self.PAGE, rules=self.port)

    def lines(self, found: Snapshot, width: int) -> Sequence[Line]:
        return service.rule_lines(found.rules, self.port, width)


class FlowsView(TextView):
    """Flows to a service port that conntrack has now."""

    PAGE = "services"
    crumb = "flows"

    def __init__(self, port: ServicePortName) -> None:
        super().__init__()
        self.port = port

    def focus_on(self) -> Focus:
        return Focus(self.PAGE, flows=self.port)

    def lines(self, found: Snapshot, width: int) -> Sequence[Line]:
        return service.flow_lines(found, self.port)
