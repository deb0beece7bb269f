"""Requests of other pages and for other hosts are refused, and every answer has the headers."""

import socket

import pytest
from app_client import ADDRESS, new_job
from starlette.testclient import TestClient

from neuropbr_core.app.site import Site


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7272", "127.0.0.1", "127.0.0.1:80", "localhost:7273", "127.0.0.1.evil.example:7272",
     "192.168.0.7:7272", "user@127.0.0.1:7272", "[::1", "127.0.0.1:port", ""],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/assets/app.js", "/jobs/x/state", "/nothing"])
def test_foreign_hosts_are_refused(client: TestClient, host: str, path: str) -> None:
    answer = client.get(path, headers={"host": host})
    assert answer.status_code == 403
    assert "none of the app's" in answer.json()["error"]


@pytest.mark.parametrize("host", ["127.0.0.1:7272", "127.0.0.2:7272", "localhost:7272", "LOCALHOST:7272", "[::1]:7272"])
def test_own_hosts_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:7272"},
        {"origin": "http://127.0.0.1:8000"},  # another program of this machine
        {"origin": "http://localhost:7272"},  # not the host of this request
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_foreign_origins_change_nothing(client: TestClient, site: Site, headers: dict[str, str]) -> None:
    job = new_job(client)
    for method, path in (
        ("POST", "/jobs"),
        ("POST", f"{job}/start"),
        ("DELETE", job),
        ("POST", f"{job}/photos?name=a.png"),
    ):
        answer = client.request(method, path, headers=headers, content=b"{}")
        assert answer.status_code == 403
        assert answer.json() == {"error": "The request comes from another page."}
    assert len(list(site.jobs)) == 1
    assert client.get(f"{job}/state").json()["photos"] == []


def test_own_origin_and_links_are_answered(client: TestClient) -> None:
    assert client.post("/jobs", headers={"origin": ADDRESS, "sec-fetch-site": "same-origin"}).status_code == 201
    # Somebody follows a link, or opens a bookmark.
    assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/assets/app.css", "/assets/nothing", "/jobs/nobody", "/nothing"])
def test_every_answer_has_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


def test_a_fault_of_the_program_is_answered_as_json_with_the_headers(
    client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = new_job(client)
    monkeypatch.setattr(site, "_snapshot", lambda _: 1 / 0)
    answer = client.get(f"{job}/state")
    assert (answer.status_code, answer.json()) == (500, {"error": "ZeroDivisionError: division by zero"})
    assert answer.headers["x-frame-options"] == "DENY"
    assert "Traceback" in capsys.readouterr().err


def test_no_answer_allows_other_origins(client: TestClient) -> None:
    answer = client.options("/jobs", headers={"origin": "http://evil.example", "access-control-request-method": "POST"})
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_in_a_network_addresses_are_answered_and_domains_are_not(make_site) -> None:
    site = make_site(network=True)
    with TestClient(site.application, base_url=ADDRESS) as client:
        for host in ("192.168.0.7:7272", "[fe80::1]:7272", f"{socket.gethostname()}:7272", "localhost:7272"):
            assert client.get("/", headers={"host": host}).status_code == 200
        for host in ("evil.example:7272", "192.168.0.7.evil.example:7272", "192.168.0.7:80"):
            assert client.get("/", headers={"host": host}).status_code == 403
