"""Owns the ways in which the registry says no, as errors that know no HTTP.

::

    RequestError
    └── RefusalError              the registry says no (``slug`` names the way)
        ├── UnauthenticatedError      no token, or one that nobody holds
        ├── ForbiddenError            a good token, but not for this
        ├── NotFoundError             the thing that is named does not exist
        ├── ConflictError             the thing exists already, and is another
        ├── TooLargeError             more bytes than are admitted
        ├── InvalidError              the request does not parse
        └── CheckFailedError          the request parses, and a check of its content failed
"""

from __future__ import annotations

from typing import ClassVar

from ota_protocol.errors import RequestError


class RefusalError(RequestError):
    """The registry says no."""

    slug: ClassVar[str] = "refused"


class UnauthenticatedError(RefusalError):
    """No token, or one that nobody holds."""

    slug = "unauthenticated"


class ForbiddenError(RefusalError):
    """A good token, but not for this."""

    slug = "forbidden"


class NotFoundError(RefusalError):
    """The thing that is named does not exist."""

    slug = "not-found"


class ConflictError(RefusalError):
    """The thing exists already, and is another."""

    slug = "conflict"


class TooLargeError(RefusalError):
    """More bytes than are admitted."""

    slug = "too-large"


class InvalidError(RefusalError):
    """The request does not parse."""

    slug = "invalid"


class CheckFailedError(RefusalError):
    """The request parses, and a check of its content failed."""

    slug = "check-failed"
