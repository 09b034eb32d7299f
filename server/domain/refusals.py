"""Owns the ways in which the registry says no, as errors that know no HTTP.

::

    RequestError
    └── RefusalError              the registry says no
        ├── UnauthenticatedError      no token, or one that nobody holds
        ├── ForbiddenError            a good token, but not for this
        ├── NotFoundError             the thing that is named does not exist
        ├── ConflictError             the thing exists already, and is another
        ├── TooLargeError             more bytes than are admitted
        ├── InvalidError              the request does not parse
        ├── TooSlowError              the bytes stopped coming
        └── CheckFailedError          the request parses, and a check of its content failed
"""

from __future__ import annotations

from ota_protocol.errors import RequestError


class RefusalError(RequestError):
    """The registry says no."""


class UnauthenticatedError(RefusalError):
    """No token, or one that nobody holds."""


class ForbiddenError(RefusalError):
    """A good token, but not for this."""


class NotFoundError(RefusalError):
    """The thing that is named does not exist."""


class ConflictError(RefusalError):
    """The thing exists already, and is another."""


class TooLargeError(RefusalError):
    """More bytes than are admitted."""


class InvalidError(RefusalError):
    """The request does not parse."""


class TooSlowError(RefusalError):
    """The bytes stopped coming."""


class CheckFailedError(RefusalError):
    """The request parses, and a check of its content failed."""
