"""Telling people: Slack, Zulip, Telegram, e-mail, any other service that apprise knows, or standard output.

A message that can not be delivered is a value with a code other than 0, never an exception: a run does not fail because
a chat does. Addresses hold secrets, so what apprise says is not shown; a reason is made of this module's own words.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from obuild.errors import Cancelled, ObuildError
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import StringIO
    from typing import Any

    from obuild.cancel import Cancel

__all__ = ["CHANNELS", "SETTINGS", "Sent", "send"]

SENT, FAILED, UNKNOWN = 0, 1, 2

TIMEOUT = 10
"""Seconds to connect, and again to wait for an answer."""

SETTINGS = {
    "slack": ("SLACK_WEBHOOK_URL",),
    "zulip": ("ZULIP_BOT_EMAIL", "ZULIP_BOT_API_KEY", "ZULIP_SERVER", "ZULIP_STREAM"),
    "telegram": ("TELEGRAM_BOT_TOKEN", "TELEGRAM_CHAT_ID"),
    "email": ("EMAIL_TO", "EMAIL_FROM"),
    "stdout": (),
}
"""The settings that a channel needs. E-mail also takes EMAIL_SERVER (host[:port], localhost:25 when not given),
EMAIL_USER and EMAIL_PASSWORD, with which it is sent over STARTTLS."""

CHANNELS = tuple(SETTINGS)


@value
class Sent:
    """What became of a message: `code` is 0 when it was delivered, 1 when not, 2 for a channel that there is not.

    `channel` names it without its secrets, `reason` says why not.
    """

    channel: str
    code: int = SENT
    reason: str = ""

    def __bool__(self) -> bool:
        return self.code == SENT


def send(
    channel: str,
    message: str,
    *,
    title: str = "",
    settings: Mapping[str, str] | None = None,
    write: Callable[[str], object] | None = None,
    attempts: bool = True,
    cancel: Cancel | None = None,
) -> Sent:
    """Send a message to a channel: a word of `CHANNELS`, a webhook's https URL, or a URL of apprise (`ntfy://…`).

    `settings` are the variables that the channel needs; `write` takes what goes to "stdout". Messages longer than the
    service takes are cut. Connections that fail, 429 and 5xx are tried again a few times, unless `attempts` is false.
    """
    shown = _shown(channel)
    try:
        if channel == "stdout":
            return _write(f"{title}\n{message}\n" if title else f"{message}\n", write)
        address = _address(channel, settings or {})
        plugin = _open(address)
        if plugin is None:
            known = channel in SETTINGS
            reason = "the settings are no address" if known else f'no channel "{shown}", and no address'
            return Sent(shown, FAILED if known else UNKNOWN, reason)

        # A plain webhook has no place for a title.
        body = f"{title}\n{message}" if title and address.startswith(("json://", "jsons://")) else message

        def deliver() -> None:
            _deliver(plugin, body, title)

        if attempts:
            from obuild.retry import retry

            retry(deliver, cancel=cancel)
        else:
            deliver()
    except Cancelled:
        return Sent(shown, FAILED, "cancelled")
    except ObuildError as error:
        return Sent(shown, FAILED, error.message)
    except Exception as error:  # noqa: BLE001 (a plugin's bug is no reason for a run to fail; its text may be secret)
        return Sent(shown, FAILED, f"it failed with {type(error).__name__}")
    return Sent(shown)


def _write(text: str, write: Callable[[str], object] | None) -> Sent:
    import sys

    try:
        (write or sys.stdout.write)(text)
    except (OSError, ValueError) as error:
        return Sent("stdout", FAILED, f"it failed with {type(error).__name__}")
    return Sent("stdout")


def _shown(channel: str) -> str:
    """The channel without what may be secret: of a URL the scheme, and of a plain one its host."""
    scheme, colon, _ = channel.partition("://")
    if not colon:
        return channel if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,30}", channel) else "unknown"
    return f"{scheme}://{urlsplit(channel).hostname}" if scheme in ("http", "https") else f"{scheme}://…"


def _address(channel: str, settings: Mapping[str, str]) -> str:
    """The channel as a URL of apprise. Raises `ObuildError` for a setting that is missing."""
    if channel not in SETTINGS:
        return _webhook(channel)
    missing = [name for name in SETTINGS[channel] if not settings.get(name)]
    if missing:
        raise ObuildError(f"not set: {', '.join(missing)}")
    text = {name: quote(text, safe="") for name, text in settings.items()}
    match channel:
        case "slack":
            return _webhook(settings["SLACK_WEBHOOK_URL"])
        case "zulip":
            bot = settings["ZULIP_BOT_EMAIL"].partition("@")[0]
            server = settings["ZULIP_SERVER"].rpartition("//")[2].strip("/")
            return f"zulip://{quote(bot)}@{server}/{text['ZULIP_BOT_API_KEY']}/{text['ZULIP_STREAM']}"
        case "telegram":
            return f"tgram://{settings['TELEGRAM_BOT_TOKEN']}/{text['TELEGRAM_CHAT_ID']}"
        case _:
            return _mail(settings, text)


def _mail(settings: Mapping[str, str], text: Mapping[str, str]) -> str:
    server = settings.get("EMAIL_SERVER") or "localhost:25"
    user = f"{text['EMAIL_USER']}:{text.get('EMAIL_PASSWORD', '')}@" if settings.get("EMAIL_USER") else ""
    scheme, mode = ("mailtos", "starttls") if user else ("mailto", "insecure")
    return f"{scheme}://{user}{server}?from={text['EMAIL_FROM']}&to={text['EMAIL_TO']}&mode={mode}&format=text"


def _webhook(url: str) -> str:
    """A plain http(s) address that apprise does not know is a webhook that takes Slack's `{"text": …}`."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or (parts.hostname or "").endswith(("slack.com", "discord.com")):
        return url
    fields = {":message": "text", ":title": "", ":version": "", ":type": "", ":attachments": ""}
    query = urlencode({**{f"-{name}": text for name, text in parse_qsl(parts.query)}, **fields})
    return f"json{'s' if parts.scheme == 'https' else ''}://{parts.netloc}{parts.path}?{query}"


_guard = threading.Lock()
"""What apprise says is heard through one logger, so one message is sent at a time."""


@contextmanager
def _hearing() -> Iterator[StringIO]:
    """What apprise warns of meanwhile; nothing that has an address in it comes to anybody else's log."""
    import logging

    import apprise

    capture: Any = apprise.LogCapture
    requests, thread = logging.getLogger("urllib3.connectionpool"), threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    with _guard:
        logging.getLogger("apprise").propagate = False
        requests.addFilter(others)
        try:
            with capture(level=logging.WARNING) as said:
                yield said
        finally:
            requests.removeFilter(others)


def _open(address: str) -> _Plugin | None:
    import apprise

    end = "&" if "?" in address else "?"
    limits = f"{end}cto={TIMEOUT}&rto={TIMEOUT}&overflow=truncate"
    with _hearing():
        asset = apprise.AppriseAsset(app_id="obuild", app_desc="obuild", app_url="", secure_logging=True)
        plugin: _Plugin | None = apprise.Apprise.instantiate(address + limits, asset=asset, suppress_exceptions=True)
    return plugin


_STATUS = re.compile(r"error=(\d{3})\b")


def _deliver(plugin: _Plugin, message: str, title: str) -> None:
    """Send once. Raises `ObuildError`, temporary where another attempt may help."""
    with _hearing() as said:
        if plugin.notify(body=message or " ", title=title):
            return
        text = said.getvalue()
    match = _STATUS.search(text)
    if match:
        status = int(match[1])
        raise ObuildError(f"the server answered {status}", temporary=status == 429 or status >= 500)
    if "onnection error" in text:
        raise ObuildError("no connection to the server", temporary=True)
    raise ObuildError("it was not delivered")


if TYPE_CHECKING:
    from typing import Protocol

    class _Plugin(Protocol):
        def notify(self, body: str, title: str) -> bool: ...
