"""Why the repository refuses, each with the HTTP status that says it.

InputError
├── NotAuthorized   401   the Authorization header does not prove who uploads
├── NotAllowed      403   the chain gives the uploader no right to this result, or a door is shut
├── NotFound        404   nothing stored under that task or CID, or no such page
├── TooSlow         408   the body did not come in time
├── TooEarly        409   right worker, wrong moment; the same request may succeed later
├── AlreadyStored   409   this task has a result and these are other bytes
├── TooLarge        413   more bytes than this repository takes
├── WrongMediaType  415   the body is not announced as a zip
└── WrongContent    422   not the result that the worker revealed
Unavailable
├── Busy            503   as many uploads as this repository takes at once
├── StorageFailed   503   the disk refuses for another reason than room
└── StorageFull     507   no room on the disk
"""

from __future__ import annotations

from poolwright.poco.errors import InputError, PeerError, PoolwrightError, Unavailable


class NotAuthorized(InputError):
    """Sign the upload digest of this task with the worker's wallet and send it in Authorization."""


class NotAllowed(InputError):
    """The chain does not give the uploader a right to this task's result."""


class NotFound(InputError):
    """Nothing is stored under that name."""


class TooSlow(InputError):
    """Send the body again over a faster connection."""


class TooEarly(InputError):
    """The chain has not reached the point where this is allowed; try again after the next block."""


class AlreadyStored(InputError):
    """A task's result is stored once and never replaced."""


class TooLarge(InputError):
    """Make the result smaller, or raise the limit of the repository."""


class WrongMediaType(InputError):
    """Send the zip of the result as it is, with Content-Type application/zip."""


class WrongContent(InputError):
    """Upload the very result whose digest was revealed."""


class Busy(Unavailable):
    """Try again in a few seconds."""


class StorageFailed(Unavailable):
    """The operator looks at the disk of the results folder."""


class StorageFull(Unavailable):
    """The operator makes room; uploads work again at once, stored results are served all the while."""


_STATUS: dict[type[PoolwrightError], int] = {
    NotAuthorized: 401,
    NotAllowed: 403,
    NotFound: 404,
    TooSlow: 408,
    TooEarly: 409,
    AlreadyStored: 409,
    TooLarge: 413,
    WrongMediaType: 415,
    WrongContent: 422,
    StorageFull: 507,
    InputError: 400,
    PeerError: 502,
    Unavailable: 503,
}


def http_status(error: PoolwrightError) -> int:
    """Return the status of an answer that carries `error`; 500 for a bug of ours."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
