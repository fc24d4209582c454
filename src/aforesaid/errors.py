"""The error tree. Codes and fields are stable and documented; HTTP statuses live in the dialects.

AforesaidError
├── Refused                 the request can't be done as it stands
│   ├── Invalid             a field is wrong               field, reason
│   ├── TooLarge            a named limit is exceeded      limit, maximum
│   ├── NotFound            not there, or not the caller's what
│   ├── Conflict            the key was used for another request
│   ├── Unauthenticated     no key, or one that is not known
│   ├── Forbidden           the key lacks the permission   permission
│   └── TooMany             slow down                      retry_after_s
├── Unavailable             a part can't answer now        retry_after_s
│   └── StorageFull         the disk is full
├── UpstreamFailed          the model server refused or broke   status, body, headers
└── Misconfigured           the settings can't work        setting
"""

from collections.abc import Mapping


class AforesaidError(Exception):
    """Something the house reports on purpose. ``code`` is stable, ``message`` is for people."""

    code = "internal_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Refused(AforesaidError):
    """The request can't be done as it stands; nothing was changed."""

    code = "refused"


class Invalid(Refused):
    """A field is wrong. ``field`` is its path in the request, outermost first."""

    code = "invalid"

    def __init__(self, message: str, *field: str | int, kind: str = "value_error") -> None:
        super().__init__(message)
        self.field = field
        self.kind = kind


class TooLarge(Refused):
    """A named limit is exceeded."""

    code = "too_large"

    def __init__(self, message: str, *, limit: str, maximum: int, field: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.limit = limit
        self.maximum = maximum
        self.field = field


class NotFound(Refused):
    """There is no such thing, or it is not the caller's: the two are never told apart."""

    code = "not_found"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} not found")
        self.what = what


class Conflict(Refused):
    """An idempotency key was used for another request, or the thing is in a state that forbids this."""

    code = "conflict"


class Unauthenticated(Refused):
    """No key was given, or one that is not known, not active or expired."""

    code = "unauthenticated"


class Forbidden(Refused):
    """The key is good but may not do this. ``permission`` names what it lacks."""

    code = "forbidden"

    def __init__(self, message: str, *, permission: str) -> None:
        super().__init__(message)
        self.permission = permission


class TooMany(Refused):
    """The caller is too fast. Try again after ``retry_after_s``."""

    code = "too_many"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(AforesaidError):
    """A part of the system can't answer now; nothing was changed. Try again after ``retry_after_s``."""

    code = "unavailable"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StorageFull(Unavailable):
    """The disk is full: nothing was stored, reads go on."""

    code = "storage_full"


class UpstreamFailed(AforesaidError):
    """The model server refused or broke before its answer began.

    ``status`` is the HTTP status to pass on, ``body`` the upstream's own bytes (empty when there was no answer),
    ``headers`` the ones worth passing on (lower-case names).
    """

    code = "upstream_failed"

    def __init__(
        self, message: str, *, status: int = 502, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


class Misconfigured(AforesaidError):
    """The settings can't work as given. ``setting`` names the one to change."""

    code = "misconfigured"

    def __init__(self, message: str, *, setting: str) -> None:
        super().__init__(message)
        self.setting = setting
