"""The end of a run on a cluster: its runs in MLflow are ended, and whoever wants to know is told.

UNMUFFLE_NOTIFY, from a Secret, says whom: JSON such as {"webhook": URL, "slack": URL, "smtp": {"host": "mail",
"sender": "unmuffle@example.org", "to": ["team@example.org"]}}. One that cannot be reached keeps nobody else from
hearing.
"""

import logging
import os
import smtplib
from contextlib import suppress
from email.message import EmailMessage

import httpx

from components import stage
from components.rayjob import kfp_run
from simulation import storage
from simulation.errors import NotThere, UnmuffleError
from simulation.schema import Schema
from training.tracking import Tracking

log = logging.getLogger(__name__)

TIMEOUT_S = 20.0
DONE = "SUCCEEDED"


class Mail(Schema):
    """A mail server, and whom to write to."""

    host: str
    sender: str
    to: tuple[str, ...]
    port: int = 25
    starttls: bool = False
    user: str = ""
    password: str = ""


class Audience(Schema):
    """Who is told."""

    webhook: str = ""
    """Gets the news as JSON."""
    slack: str = ""
    """Gets {"text": ...}, as Slack and whatever is compatible with it expect."""
    smtp: Mail | None = None

    @classmethod
    def current(cls) -> "Audience":
        """Those of UNMUFFLE_NOTIFY; nobody where it is not set."""
        text = os.environ.get("UNMUFFLE_NOTIFY")
        return cls.parse(text, "UNMUFFLE_NOTIFY") if text else cls()


class Begun(Schema):
    """What the first step of a run leaves for the last one, which KFP gives nothing else to."""

    key: str
    use: str
    scenario: str
    reason: str

    def leave(self, store: str, run: str) -> None:
        """Below KFP's id of the run."""
        storage.replace(_address(store, run), self.canonical())


class News(Schema):
    """How a run ended."""

    state: str
    """KFP's word: SUCCEEDED, FAILED, CANCELED."""
    kfp_run: str
    key: str = ""
    use: str = ""
    scenario: str = ""
    reason: str = ""
    message: str = ""
    """Of the stage that failed, else KFP's."""

    @property
    def line(self) -> str:
        """For people."""
        what = f"retrain {self.scenario} for {self.use} ({self.reason})" if self.key else "a retraining"
        return f"unmuffle: {what} {self.state.lower()}, run {self.kfp_run}{': ' + self.message if self.message else ''}"


def notified(store: str, state: str, message: str) -> News:
    """End the run in MLflow and tell everybody of UNMUFFLE_NOTIFY. A run that never began is told of too."""
    run = kfp_run()
    news = News(state=state, kfp_run=run, message=message)
    try:
        begun = Begun.parse(storage.read(_address(store, run)), "the beginning of the run")
        news = _completed(news, begun, store)
        _end_in_mlflow(begun, state == DONE)
    except UnmuffleError as error:
        log.warning("%s", error)
    _tell(news, Audience.current())
    return news


def _completed(news: News, begun: Begun, store: str) -> News:
    more = begun.model_dump()
    if news.state != DONE:
        with suppress(NotThere):
            more["message"] = storage.read(stage.error_address(store, begun.key)).decode()
    return news.model_copy(update=more)


def _end_in_mlflow(begun: Begun, ok: bool) -> None:
    tracking = Tracking()
    tracking.finish(tracking.run(begun.key, f"retrain {begun.scenario}"), ok)


def _tell(news: News, audience: Audience) -> None:
    posts = {audience.webhook: news.model_dump(mode="json"), audience.slack: {"text": news.line}}
    for number, (url, body) in enumerate(posts.items()):
        if url:
            try:
                httpx.post(url, json=body, timeout=TIMEOUT_S).raise_for_status()
            except httpx.HTTPError as error:  # its message may hold the address, which is a secret
                log.error("%s was not told: %s", ("the webhook", "Slack")[number], type(error).__name__)
    if audience.smtp is not None:
        try:
            _mail(news, audience.smtp)
        except (OSError, smtplib.SMTPException) as error:
            log.error("no mail was sent: %s", type(error).__name__)


def _mail(news: News, mail: Mail) -> None:
    letter = EmailMessage()
    letter["Subject"], letter["From"], letter["To"] = news.line.splitlines()[0][:200], mail.sender, ", ".join(mail.to)
    letter.set_content(f"{news.line}\n\n{news.model_dump_json(indent=2)}\n")
    with smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT_S) as server:
        if mail.starttls:
            server.starttls()
        if mail.user:
            server.login(mail.user, mail.password)
        server.send_message(letter)


def _address(store: str, run: str) -> str:
    return storage.join(store, "kfp-runs", f"{run or 'outside'}.json")
