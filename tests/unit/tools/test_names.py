"""Service names as people write them."""

from __future__ import annotations

import pytest

from kpx.cluster.objects import Service
from kpx.proxier.frontends import ServiceName, ServicePortName
from kpx.tools.errors import ToolError, UsageError
from kpx.tools.names import Asked, choose, parse, ports
from tests.unit.proxier.objects import service

KNOWN = {ServiceName(*one.split("/")) for one in ("shop/web", "shop/cart", "blog/web", "default/api", "blog/api")}


@pytest.mark.parametrize(
    ("text", "namespace", "asked"),
    [
        ("svc/web", "shop", Asked("shop", "web")),
        ("service/web", "", Asked("", "web")),
        ("services/web:http", "shop", Asked("shop", "web", "http")),
        ("web", "shop", Asked("shop", "web")),
        ("web:80", "", Asked("", "web", "80")),
        ("shop/web", "", Asked("shop", "web")),
        ("shop/web:http", "shop", Asked("shop", "web", "http")),
        ("svc/shop/web", "", Asked("shop", "web")),
    ],
)
def test_what_people_write(text: str, namespace: str, asked: Asked) -> None:
    assert parse(text, namespace) == asked


@pytest.mark.parametrize("text", ["", "shop/", "/web", "a/b/c", ":80"])
def test_what_names_no_service(text: str) -> None:
    with pytest.raises(UsageError, match="names no Service: write svc/NAME"):
        parse(text)


def test_two_namespaces_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="in namespace shop, but -n says blog"):
        parse("shop/web", "blog")


def chosen(text: str, *others: Service) -> ServiceName:
    absent = {ServiceName(one.metadata.namespace, one.metadata.name): one for one in others}
    return choose(parse(text), KNOWN, absent.get)


def test_the_service_that_is_meant() -> None:
    assert chosen("shop/web") == ("shop", "web")
    assert chosen("cart") == ("shop", "cart")
    assert chosen("api") == ("default", "api"), "without a namespace, kubectl's default comes first"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web", "in several namespaces: choose one with -n, or write one of blog/web, shop/web"),
        ("shop/wep", "no Service wep in namespace shop; is it one of shop/web, blog/web?"),
        ("blog/cart", "no Service cart in namespace blog; is it one of shop/cart?"),
        ("shop/nothing-like-it", "no Service nothing-like-it in namespace shop; `kpx services` lists"),
    ],
)
def test_what_is_near(text: str, said: str) -> None:
    with pytest.raises(ToolError) as failure:
        chosen(text)
    assert said in str(failure.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"clusterIP": "None"}, "shop/x is headless .* `kubectl get endpointslices -n shop -l"),
        ({"clusterIP": "", "type": "ExternalName", "externalName": "a.example"}, "DNS answers with a.example"),
        ({"clusterIP": ""}, "has no cluster IP that a proxy could serve"),
    ],
)
def test_services_that_no_proxy_serves(spec: dict[str, str], said: str) -> None:
    with pytest.raises(ToolError, match=said):
        chosen("shop/x", service("shop/x", **spec))


def test_a_port_by_name_or_number() -> None:
    web = ServiceName("shop", "web")
    http, dns = ServicePortName("shop", "web", "http", "TCP"), ServicePortName("shop", "web", "dns", "UDP")
    known = [(http, {80, 30080}), (dns, {53}), (ServicePortName("shop", "cart", "", "TCP"), {80})]

    assert ports(parse("shop/web"), web, known) == [dns, http]
    assert ports(parse("shop/web:80"), web, known) == [http]
    assert ports(parse("shop/web:30080"), web, known) == [http]
    assert ports(parse("shop/web:dns"), web, known) == [dns]
    with pytest.raises(ToolError, match=r"has no port 81: it has dns or 53 \(UDP\), http or 80 or 30080 \(TCP\)"):
        ports(parse("shop/web:81"), web, known)
