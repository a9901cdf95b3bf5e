"""Messages to people: real servers on this machine that answer well, badly, or not at all; and no secret shown."""

from __future__ import annotations

import io
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from obuild.cancel import Cancel
from obuild.runs.notify import CHANNELS, SETTINGS, Sent, send

SECRET = "s3cr3tT0kenS3cr3t"


class Server(ThreadingHTTPServer):
    """Answers each request with the next of `answers`, the last one for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = [200]
        self.requests: list[tuple[str, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/{SECRET}?token={SECRET}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.path, json.loads(body)))
        answers = self.server.answers
        self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
        self.end_headers()
        self.wfile.write(b"no thanks")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def closed() -> str:
    """The address of a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/hooks/{SECRET}"


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """All that was said since: on standard output and error, and in the log of a program that logs everything."""
    lines = io.StringIO()
    handler, root = logging.StreamHandler(lines), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield lambda: "".join([*capfd.readouterr(), lines.getvalue()])
    root.removeHandler(handler)
    root.setLevel(level)


def test_a_webhook_gets_slacks_json(server: Server) -> None:
    text = 'it\'s "quoted" \\ and\nhas <two> lines & ümlauts; $(touch /tmp/x) `y`'
    sent = send("slack", text, settings={"SLACK_WEBHOOK_URL": server.url})
    assert (sent, bool(sent)) == (Sent("slack"), True)
    ((path, body),) = server.requests
    assert path == f"/hooks/{SECRET}?token={SECRET}"
    assert body["text"] == text
    assert body.keys() == {"text"}


def test_any_address_is_a_channel(server: Server) -> None:
    assert send(server.url, "one", title="Title").code == 0
    assert "one" in server.requests[0][1]["text"]
    other = server.url.replace("http://", "json://").partition("?")[0]
    assert send(other, "two").code == 0
    assert server.requests[1][1]["message"] == "two"


@pytest.mark.parametrize("status", [500, 404, 403, 429])
def test_a_server_that_refuses(server: Server, status: int, said: Callable[[], str]) -> None:
    server.answers = [status]
    sent = send(server.url, "x", attempts=False)
    assert (sent.code, sent.reason) == (1, f"the server answered {status}")
    assert len(server.requests) == 1
    assert SECRET not in said() + repr(sent)


def test_what_may_pass_is_tried_again_and_what_not_is_not(server: Server) -> None:
    server.answers = [503, 200]
    assert send(server.url, "x").code == 0
    assert len(server.requests) == 2
    server.answers = [404]
    assert send(server.url, "x").code == 1
    assert len(server.requests) == 3


def test_nobody_listens(closed: str, said: Callable[[], str]) -> None:
    sent = send(closed, "x", attempts=False)
    assert sent == Sent("http://127.0.0.1", 1, "no connection to the server")
    assert not sent
    assert SECRET not in said() + repr(sent)


def test_waiting_for_another_attempt_can_be_cancelled(closed: str) -> None:
    cancel = Cancel()
    threading.Timer(0.1, cancel.set).start()
    assert send(closed, "x", cancel=cancel) == Sent("http://127.0.0.1", 1, "cancelled")


@pytest.mark.parametrize("channel", [name for name in CHANNELS if SETTINGS[name]])
def test_missing_settings_are_named(channel: str) -> None:
    sent = send(channel, "x", settings={SETTINGS[channel][-1]: ""})
    assert sent == Sent(channel, 1, f"not set: {', '.join(SETTINGS[channel])}")


@pytest.mark.parametrize("channel", ["pigeon", "", "foo://bar", f"{SECRET} {SECRET}", "telegrm", "://", "http://"])
def test_unknown_channels(channel: str, said: Callable[[], str]) -> None:
    sent = send(channel, "x", attempts=False)
    assert sent.code in ((2,) if channel != "http://" else (1, 2))
    assert SECRET not in said() + repr(sent)


@pytest.mark.parametrize(
    ("channel", "settings"),
    [
        ("slack", {"SLACK_WEBHOOK_URL": f"https://hooks.slack.com/{SECRET}"}),
        ("zulip", {"ZULIP_BOT_EMAIL": "b@x", "ZULIP_BOT_API_KEY": SECRET, "ZULIP_SERVER": "-", "ZULIP_STREAM": "s"}),
        ("telegram", {"TELEGRAM_BOT_TOKEN": SECRET, "TELEGRAM_CHAT_ID": "12"}),
        ("email", {"EMAIL_TO": SECRET, "EMAIL_FROM": "me"}),
    ],
)
def test_settings_that_are_none(channel: str, settings: dict[str, str], said: Callable[[], str]) -> None:
    sent = send(channel, "x", settings=settings, attempts=False)
    assert (sent.channel, sent.code, bool(sent.reason)) == (channel, 1, True)
    assert SECRET not in said() + repr(sent)


def test_services_that_are_far_away_are_addressed_as_they_want(monkeypatch: pytest.MonkeyPatch) -> None:
    from obuild.runs import notify

    seen: list[str] = []
    monkeypatch.setattr(notify, "_deliver", lambda plugin, message, title: seen.append(plugin.url()))
    zulip = {"ZULIP_BOT_EMAIL": "news-bot@chat.example.org", "ZULIP_BOT_API_KEY": "a" * 32}
    zulip |= {"ZULIP_SERVER": "https://chat.example.org", "ZULIP_STREAM": "general"}
    telegram = {"TELEGRAM_BOT_TOKEN": f"123456789:{'A' * 35}", "TELEGRAM_CHAT_ID": "-1001234"}
    slack = {"SLACK_WEBHOOK_URL": f"https://hooks.slack.com/services/T0ABCDEFG/B0ABCDEFG/{'x' * 24}"}
    for channel, settings in (("zulip", zulip), ("telegram", telegram), ("slack", slack)):
        assert send(channel, "x", settings=settings) == Sent(channel)
    assert [url.partition("://")[0] for url in seen] == ["zulip", "tgram", "slack"]
    assert "chat.example.org" in seen[0]
    assert "overflow=truncate" in seen[1]


# E-mail.


@pytest.fixture
def post_office() -> Iterator[tuple[str, list[str]]]:
    """A server that takes mails, as plain as one can be."""
    listener = socket.create_server(("127.0.0.1", 0))
    lines: list[str] = []

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer, peer.makefile("rwb", buffering=0) as stream:
                stream.write(b"220 here\r\n")
                data = False
                for line in stream:
                    lines.append(line.decode().rstrip())
                    if data and line != b".\r\n":
                        continue
                    data = line.upper() == b"DATA\r\n"
                    stream.write(b"354 go on\r\n" if data else b"250 well\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}", lines
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_mail(post_office: tuple[str, list[str]]) -> None:
    server, lines = post_office
    settings = {"EMAIL_TO": "one@example.org,two@example.org", "EMAIL_FROM": "ci@example.org", "EMAIL_SERVER": server}
    sent = send("email", "two packages fail", title="today", settings=settings, attempts=False)
    assert sent == Sent("email")
    to = [line.lower() for line in lines if line.lower().startswith("rcpt")]
    assert to == ["rcpt to:<one@example.org>", "rcpt to:<two@example.org>"]
    assert any("two packages fail" in line for line in lines)
    assert any(line.lower().startswith("mail from:<ci@example.org>") for line in lines)


def test_mail_without_a_server(closed: str) -> None:
    port = closed.split(":")[2].partition("/")[0]
    settings = {"EMAIL_TO": "a@example.org", "EMAIL_FROM": "b@example.org", "EMAIL_SERVER": f"127.0.0.1:{port}"}
    assert send("email", "x", settings=settings, attempts=False) == Sent("email", 1, "no connection to the server")


# Standard output.


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    assert send("stdout", "text", title="title", write=lines.append) == Sent("stdout")
    assert lines == ["title\ntext\n"]
    assert send("stdout", "text").code == 0
    assert capsys.readouterr().out == "text\n"

    def broken(_: str) -> None:
        raise BrokenPipeError

    assert send("stdout", "text", write=broken) == Sent("stdout", 1, "it failed with BrokenPipeError")


def test_long_messages_are_cut_to_what_the_service_takes(server: Server) -> None:
    assert send(server.url, "x" * 100_000).code == 0
    assert 1000 < sum(len(body["text"]) for _, body in server.requests) <= 40_000
