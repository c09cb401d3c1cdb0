"""Context hooks, sound and broken, that write down what they see."""

from contextlib import contextmanager

SEEN: list[object] = []


class Recorder:
    """Captures ``VALUE``, and records how its block begins and ends."""

    VALUE: object = "acme"

    def capture(self):
        return self.VALUE

    @contextmanager
    def restore(self, value):
        SEEN.append((type(self).__name__, value))
        try:
            yield
        except BaseException as error:
            SEEN.append((type(self).__name__, type(error).__name__))
            raise
        SEEN.append((type(self).__name__, "end"))


class Inner(Recorder):
    VALUE = {"user": 7}


class CannotCapture(Recorder):
    def capture(self):
        raise LookupError("no tenant")


class CannotBegin(Recorder):
    def restore(self, value):
        raise LookupError(f"no schema {value}")


class CannotEnd(Recorder):
    @contextmanager
    def restore(self, value):
        try:
            yield
        finally:
            raise ConnectionError("the schema cannot be left")


class Swallows(Recorder):
    @contextmanager
    def restore(self, value):
        try:
            yield
        except BaseException:
            SEEN.append("swallowed")


class NotDecorated(Recorder):
    def restore(self, value):
        yield


class OnlyHalf:
    def capture(self):
        return 1


class NeedsArguments(Recorder):
    def __init__(self, tenant):
        pass


instance = Recorder()
