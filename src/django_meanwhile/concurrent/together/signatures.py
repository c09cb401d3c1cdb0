"""What type checkers know of ``parallel`` and ``aparallel``: each result keeps its type, up to six of them.

Written once, so that ``calls`` can be read. Nothing here runs, but for ``typed``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack, overload

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.db.models.query import RawQuerySet

S = TypeVar("S")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
QA = TypeVar("QA", bound="QuerySet[Any, Any] | RawQuerySet[Any]")
QB = TypeVar("QB", bound="QuerySet[Any, Any] | RawQuerySet[Any]")
QC = TypeVar("QC", bound="QuerySet[Any, Any] | RawQuerySet[Any]")
QD = TypeVar("QD", bound="QuerySet[Any, Any] | RawQuerySet[Any]")
QE = TypeVar("QE", bound="QuerySet[Any, Any] | RawQuerySet[Any]")
QF = TypeVar("QF", bound="QuerySet[Any, Any] | RawQuerySet[Any]")

_Call: TypeAlias = "Callable[[], A] | QA"
_AFunction: TypeAlias = "Callable[[], Awaitable[A]]"
_ACall: TypeAlias = "Awaitable[A] | Callable[[], A] | QA"


class Terms(TypedDict, total=False):
    """The options besides ``return_exceptions``, on which the result's type depends."""

    max_workers: int | None
    timeout: float | None
    snapshot: bool | str
    outside_transaction: bool


def typed(signature: type[S]) -> Callable[[Callable[..., Any]], S]:  # noqa: ARG001
    """Decorate a function to be known by another signature. It stays what it is."""
    return lambda function: function  # type: ignore[return-value]


class Parallel:
    """Of ``parallel``."""

    __name__: str

    @overload
    def __call__(
        self, a: _Call[A, QA], /, *, return_exceptions: Literal[False] = ..., **terms: Unpack[Terms]
    ) -> tuple[A | QA]: ...
    @overload
    def __call__(
        self, a: _Call[A, QA], /, *, return_exceptions: bool, **terms: Unpack[Terms]
    ) -> tuple[A | QA | BaseException]: ...
    @overload
    def __call__(
        self, a: _Call[A, QA], b: _Call[B, QB], /, *, return_exceptions: Literal[False] = ..., **terms: Unpack[Terms]
    ) -> tuple[A | QA, B | QB]: ...
    @overload
    def __call__(
        self, a: _Call[A, QA], b: _Call[B, QB], /, *, return_exceptions: bool, **terms: Unpack[Terms]
    ) -> tuple[A | QA | BaseException, B | QB | BaseException]: ...
    @overload
    def __call__(
        self,
        a: _Call[A, QA],
        b: _Call[B, QB],
        c: _Call[C, QC],
        /,
        *,
        return_exceptions: Literal[False] = ...,
        **terms: Unpack[Terms],
    ) -> tuple[A | QA, B | QB, C | QC]: ...
    @overload
    def __call__(
        self, a: _Call[A, QA], b: _Call[B, QB], c: _Call[C, QC], /, *, return_exceptions: bool, **terms: Unpack[Terms]
    ) -> tuple[A | QA | BaseException, B | QB | BaseException, C | QC | BaseException]: ...
    @overload
    def __call__(
        self,
        a: _Call[A, QA],
        b: _Call[B, QB],
        c: _Call[C, QC],
        d: _Call[D, QD],
        /,
        *,
        return_exceptions: Literal[False] = ...,
        **terms: Unpack[Terms],
    ) -> tuple[A | QA, B | QB, C | QC, D | QD]: ...
    @overload
    def __call__(
        self,
        a: _Call[A, QA],
        b: _Call[B, QB],
        c: _Call[C, QC],
        d: _Call[D, QD],
        /,
        *,
        return_exceptions: bool,
        **terms: Unpack[Terms],
    ) -> tuple[A | QA | BaseException, B | QB | BaseException, C | QC | BaseException, D | QD | BaseException]: ...
    @overload
    def __call__(
        self,
        a: _Call[A, QA],
        b: _Call[B, QB],
        c: _Call[C, QC],
        d: _Call[D, QD],
        e: _Call[E, QE],
        /,
        *,
        return_exceptions: Literal[False] = ...,
        **terms: Unpack[Terms],
    ) -> tuple[A | QA, B | QB, C | QC, D | QD, E | QE]: ...
    @overload
    def __call__(
        self,
        a: _Call[A, QA],
        b: _Call[B, QB],
        c: _Call[C, QC],
        d: _Call[D, QD],
        e: _Call[E, QE],
        /,
        *,
        return_exceptions: bool,
        **terms: Unpack[Terms],
    ) -> tuple[
        A | QA | BaseException,
        B | QB | BaseException,
        C | QC | BaseException,
        D | QD | BaseException,
        E | QE | BaseException,
    ]: ...
    @overload
    def __call__(
        self,
        a: _Call[A, QA],
        b: _Call[B, QB],
        c: _Call[C, QC],
        d: _Call[D, QD],
        e: _Call[E, QE],
        f: _Call[F, QF],
        /,
        *,
        return_exceptions: Literal[False] = ...,
        **terms: Unpack[Terms],
    ) -> tuple[A | QA, B | QB, C | QC, D | QD, E | QE, F | QF]: ...
    @overload
    def __call__(
        self,
        a: _Call[A, QA],
        b: _Call[B, QB],
        c: _Call[C, QC],
        d: _Call[D, QD],
        e: _Call[E, QE],
        f: _Call[F, QF],
        /,
        *,
        return_exceptions: bool,
        **terms: Unpack[Terms],
    ) -> tuple[
        A | QA | BaseException,
        B | QB | BaseException,
        C | QC | BaseException,
        D | QD | BaseException,
        E | QE | BaseException,
        F | QF | BaseException,
    ]: ...
    @overload
    def __call__(
        self, *calls: _Call[A, QA], return_exceptions: Literal[False] = ..., **terms: Unpack[Terms]
    ) -> tuple[A | QA, ...]: ...
    @overload
    def __call__(
        self, *calls: _Call[A, QA], return_exceptions: bool, **terms: Unpack[Terms]
    ) -> tuple[A | QA | BaseException, ...]: ...
    def __call__(self, *calls: Any, **terms: Any) -> Any:
        """Type checkers read the overloads."""


class AParallel:
    """Of ``aparallel``: coroutine functions beside plain ones are told apart, up to three calls."""

    __name__: str

    @overload
    async def __call__(
        self, a: _AFunction[A], /, *, return_exceptions: Literal[False] = ..., **terms: Unpack[Terms]
    ) -> tuple[A]: ...
    @overload
    async def __call__(
        self, a: _ACall[A, QA], /, *, return_exceptions: Literal[False] = ..., **terms: Unpack[Terms]
    ) -> tuple[A | QA]: ...
    @overload
    async def __call__(
        self, a: _AFunction[A], b: _AFunction[B], /, *, return_exceptions: Literal[False] = ..., **terms: Unpack[Terms]
    ) -> tuple[A, B]: ...
    @overload
    async def __call__(
        self, a: _AFunction[A], b: _ACall[B, QB], /, *, return_exceptions: Literal[False] = ..., **terms: Unpack[Terms]
    ) -> tuple[A, B | QB]: ...
    @overload
    async def __call__(
        self, a: _ACall[A, QA], b: _AFunction[B], /, *, return_exceptions: Literal[False] = ..., **terms: Unpack[Terms]
    ) -> tuple[A | QA, B]: ...
    @overload
    async def __call__(
        self, a: _ACall[A, QA], b: _ACall[B, QB], /, *, return_exceptions: Literal[False] = ..., **terms: Unpack[Terms]
    ) -> tuple[A | QA, B | QB]: ...
    @overload
    async def __call__(
        self,
        a: _AFunction[A],
        b: _AFunction[B],
        c: _AFunction[C],
        /,
        *,
        return_exceptions: Literal[False] = ...,
        **terms: Unpack[Terms],
    ) -> tuple[A, B, C]: ...
    @overload
    async def __call__(
        self,
        a: _AFunction[A],
        b: _AFunction[B],
        c: _ACall[C, QC],
        /,
        *,
        return_exceptions: Literal[False] = ...,
        **terms: Unpack[Terms],
    ) -> tuple[A, B, C | QC]: ...
    @overload
    async def __call__(
        self,
        a: _AFunction[A],
        b: _ACall[B, QB],
        c: _AFunction[C],
        /,
        *,
        return_exceptions: Literal[False] = ...,
        **terms: Unpack[Terms],
    ) -> tuple[A, B | QB, C]: ...
    @overload
    async def __call__(
        self,
        a: _AFunction[A],
        b: _ACall[B, QB],
        c: _ACall[C, QC],
        /,
        *,
        return_exceptions: Literal[False] = ...,
        **terms: Unpack[Terms],
    ) -> tuple[A, B | QB, C | QC]: ...
    @overload
    async def __call__(
        self,
        a: _ACall[A, QA],
        b: _AFunction[B],
        c: _AFunction[C],
        /,
        *,
        return_exceptions: Literal[False] = ...,
        **terms: Unpack[Terms],
    ) -> tuple[A | QA, B, C]: ...
    @overload
    async def __call__(
        self,
        a: _ACall[A, QA],
        b: _AFunction[B],
        c: _ACall[C, QC],
        /,
        *,
        return_exceptions: Literal[False] = ...,
        **terms: Unpack[Terms],
    ) -> tuple[A | QA, B, C | QC]: ...
    @overload
    async def __call__(
        self,
        a: _ACall[A, QA],
        b: _ACall[B, QB],
        c: _AFunction[C],
        /,
        *,
        return_exceptions: Literal[False] = ...,
        **terms: Unpack[Terms],
    ) -> tuple[A | QA, B | QB, C]: ...
    @overload
    async def __call__(
        self,
        a: _ACall[A, QA],
        b: _ACall[B, QB],
        c: _ACall[C, QC],
        /,
        *,
        return_exceptions: Literal[False] = ...,
        **terms: Unpack[Terms],
    ) -> tuple[A | QA, B | QB, C | QC]: ...
    @overload
    async def __call__(
        self, *calls: _AFunction[A], return_exceptions: Literal[False] = ..., **terms: Unpack[Terms]
    ) -> tuple[A, ...]: ...
    @overload
    async def __call__(
        self, *calls: _ACall[A, QA], return_exceptions: Literal[False] = ..., **terms: Unpack[Terms]
    ) -> tuple[A | QA, ...]: ...
    @overload
    async def __call__(
        self, *calls: _AFunction[A], return_exceptions: bool, **terms: Unpack[Terms]
    ) -> tuple[A | BaseException, ...]: ...
    @overload
    async def __call__(
        self, *calls: _ACall[A, QA], return_exceptions: bool, **terms: Unpack[Terms]
    ) -> tuple[A | QA | BaseException, ...]: ...
    @overload
    async def __call__(self, *calls: Any, return_exceptions: bool, **terms: Unpack[Terms]) -> tuple[Any, ...]: ...
    async def __call__(self, *calls: Any, **terms: Any) -> Any:
        """Type checkers read the overloads."""
