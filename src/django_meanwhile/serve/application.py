"""What each server process runs before it serves: set up Django, find the application, wrap it.

``load`` is called by Granian in a new process, with the first process's order. It is told back, by the order's pipe,
whether the application is there. Imports neither Granian nor, before Django is set up, anything of the project.
"""

from __future__ import annotations

import inspect
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, Literal, NoReturn

import django

from .signals import heed_once

Word = Literal["ready", "broken", "changed"]

TO_TELL = 1.0
"""Seconds for cancelled coroutines to end and be named; less where ``graceful_timeout`` is short."""

LONGEST = 2000
"""Characters of a message: a write to a pipe is not torn apart if it is short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a server process is told. Pickled."""

    interface: Literal["wsgi", "asgi"]
    application: str
    source: str
    #: Watch the files, and survive code that does not load.
    reload: bool
    #: Seconds for the requests that run, once the first process is gone.
    grace: float
    log_level: str
    #: Print tracebacks of code that does not load.
    traceback: bool
    told: Connection

    def tell(self, word: Word, text: str = "") -> None:
        """Tell the first process; it may be gone."""
        try:
            self.told.send((word, text[:LONGEST]))
        except OSError:
            os.kill(os.getpid(), signal.SIGTERM)


class NotAnApplication(Exception):
    """The module has no such application, or one for another interface; the message says what to write."""


def load(order: Order) -> Callable[..., Any]:
    """Return the application that this process serves. Where it does not load, say so and wait for the end."""
    _end_with_the_first_process(order.grace)
    heed_once(partial(_begin_to_end, order.grace))
    multiprocessing.set_start_method(None, force=True)  # "spawn" was for us; the project's code has its default
    try:
        application = _load_and_watch(order) if order.reload else _load(order)
    except Exception as error:  # noqa: BLE001 - whatever the project's code raises
        if order.traceback:
            traceback.print_exc()
        order.tell("broken", describe(error))
        _wait_for_the_end()
    order.tell("ready", str(os.getpid()))
    return application


def _wait_for_the_end() -> NoReturn:
    """SIGTERM has no handler yet: the first process ends this one with it."""
    while True:
        threading.Event().wait()


def _load(order: Order) -> Callable[..., Any]:
    django.setup()
    from .records import connect  # noqa: PLC0415 - the project's LOGGING comes first

    application = _wrapped(find(order), order.interface)
    connect(order.log_level)  # a project's wsgi.py sets up Django, and its LOGGING, once more
    _bring_the_worker_along()
    return application


def _load_and_watch(order: Order) -> Callable[..., Any]:
    """Load; if that fails, answer with the reason until a file changes. Django's reloader knows the broken file."""
    from . import reload  # noqa: PLC0415 - only where files are watched

    reload.announce()
    _lend_the_terminal()
    try:
        application: Callable[..., Any] = reload.remembering_errors(_load)(order)
    except Exception:  # noqa: BLE001 - as above
        text = traceback.format_exc()
        sys.stderr.write(text)
        application = _broken(order.interface, text)
    reload.watch(lambda: order.tell("changed"))
    return application


def find(order: Order) -> Callable[..., Any]:
    """Import the application and its URLs, which the first request would; check that it is one for the interface."""
    application = _imported(order)
    from django.urls import get_resolver  # noqa: PLC0415 - Django is set up by now

    _ = get_resolver().url_patterns
    return application


def _imported(order: Order) -> Callable[..., Any]:
    if not order.application:
        module = import_module(f"django.core.{order.interface}")
        made: Callable[..., Any] = getattr(module, f"get_{order.interface}_application")()
        return made
    name, _, attribute = order.application.rpartition(".")
    found = getattr(import_module(name), attribute, None)
    if not callable(found):
        raise NotAnApplication(
            f"{order.source}: {name} has no application {attribute!r}. Write its dotted path to "
            f"{order.interface.upper()}_APPLICATION in the settings."
        )
    other = "asgi" if order.interface == "wsgi" else "wsgi"
    if _is_asgi(found) != (order.interface == "asgi"):
        raise NotAnApplication(
            f"{order.source}: {order.application} is an application for {other.upper()}, and the interface is "
            f"{order.interface.upper()}. Write --interface {other}, or the path of another application to "
            f"{order.interface.upper()}_APPLICATION in the settings."
        )
    application: Callable[..., Any] = found
    return application


def _is_asgi(application: Any) -> bool:
    call = application if inspect.isroutine(application) else type(application).__call__
    if inspect.iscoroutinefunction(call):
        return True
    try:
        wanted = inspect.signature(application).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [each for each in wanted if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]
    return len([each for each in positional if each.default is each.empty]) == len(("scope", "receive", "send"))


def _wrapped(application: Any, interface: str) -> Callable[..., Any]:
    """Serve static files under DEBUG, as runserver does; give an ASGI application its lifespan."""
    from django.apps import apps  # noqa: PLC0415 - Django is set up by now
    from django.conf import settings  # noqa: PLC0415 - as above

    if settings.DEBUG and apps.is_installed("django.contrib.staticfiles"):
        from django.contrib.staticfiles import handlers  # noqa: PLC0415 - as above

        wrap = handlers.StaticFilesHandler if interface == "wsgi" else handlers.ASGIStaticFilesHandler
        application = wrap(application)
    if interface == "asgi":
        from .lifespan import with_lifespan  # noqa: PLC0415 - of use here only

        return with_lifespan(application)
    wrapped: Callable[..., Any] = application
    return wrapped


def _bring_the_worker_along() -> None:
    from .. import conf, embedded  # noqa: PLC0415 - Django is set up by now

    if conf.read_settings()[0].embedded:
        embedded.start()


def _begin_to_end(grace: float) -> None:
    """Cancel background coroutines in time, so that they are named before the first process kills this one."""
    from ..concurrent.coroutines import residents  # noqa: PLC0415 - Django is set up by now

    residents.cut_off_within(grace - min(TO_TELL, grace / 4))
    _let_the_worker_go()


def _let_the_worker_go() -> None:
    """End the embedded worker while the last requests are answered, and start no other one, as this server ends.

    A thread that is waited for at the exit, but not where files are watched: the next process comes at once.
    """
    from .. import embedded  # noqa: PLC0415 - Django is set up by now
    from ..embedded import serving  # noqa: PLC0415 - as above

    threading.Thread(
        target=embedded.stop, args=(embedded.GONE_WITHIN,), name="meanwhile-end", daemon=serving.is_runserver()
    ).start()


def _broken(interface: str, text: str) -> Callable[..., Any]:
    """Return an application that answers everything with the reason why there is none."""
    body = f"The code does not load. Mend it: this page is answered by the new code then.\n\n{text}".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]

    def wsgi(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:  # noqa: ARG001 - the protocol's
        start_response("500 Internal Server Error", headers)
        return [body]

    async def asgi(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - as above
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": 500, "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    if interface == "wsgi":
        return wsgi
    from .lifespan import with_lifespan  # noqa: PLC0415 - of use here only

    return with_lifespan(asgi)


def describe(error: BaseException) -> str:
    """Say in one line what went wrong, and where in the files."""
    if isinstance(error, NotAnApplication):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and "importlib" not in frame.filename
    ]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return " ".join(f"{type(error).__name__}: {error}{where}".split())


def _lend_the_terminal() -> None:
    """Give ``breakpoint()`` the terminal, which a process of multiprocessing does not have."""
    if sys.stderr.isatty() and os.name == "posix":
        try:
            sys.stdin = open("/dev/tty")  # noqa: PTH123, SIM115 - for as long as the process lives
        except OSError:
            return


def _end_with_the_first_process(grace: float) -> None:
    """Leave nothing behind if the first process is killed: end as it would have asked, and in time."""
    first = multiprocessing.parent_process()
    if first is None:  # a free-threaded Python: server "processes" are threads of the first one
        return

    def wait() -> None:
        first.join()
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(grace)
        os._exit(1)

    threading.Thread(target=wait, name="meanwhile-first-process", daemon=True).start()
