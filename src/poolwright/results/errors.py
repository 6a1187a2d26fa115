"""Why the repository refuses, each with the HTTP status that says it.

InputError
├── NotAuthorized   401   the Authorization header does not prove who uploads
├── NotAllowed      403   the chain gives the uploader no right to this result, or a door is shut
├── NotFound        404   nothing stored under that task or CID, or no such page
├── TooSlow         408   the body did not come in time
├── AlreadyStored   409   this task has a result and these are other bytes
├── TooLarge        413   more bytes than this repository takes
├── WrongMediaType  415   the body is not announced as a zip
└── WrongContent    422   not the result that the worker revealed
Unavailable
├── TooEarly        503   the chain, as our node sees it, is not yet where this upload is due
├── Busy            503   as many uploads as this repository takes at once
├── StorageFailed   503   the disk refuses for another reason than room
└── StorageFull     507   no room on the disk

What is 5xx may pass, and the uploader comes again; what is 4xx will not (408 apart, over a better line).
"""

from __future__ import annotations

from poolwright.poco.errors import InputError, Unavailable


class NotAuthorized(InputError):
    """Sign the upload digest of this task with the worker's wallet and send it in Authorization."""

    http_status = 401


class NotAllowed(InputError):
    """The chain does not give the uploader a right to this task's result."""

    http_status = 403


class NotFound(InputError):
    """Nothing is stored under that name."""

    http_status = 404


class TooSlow(InputError):
    """Send the body again over a faster connection."""

    http_status = 408


class AlreadyStored(InputError):
    """A task's result is stored once and never replaced; `cid` is the one that is kept.

    It was checked against the chain like any other, so it is as good a result as the refused one.
    """

    http_status = 409

    def __init__(self, what: str, *, cid: str, expected: str, got: str, next_step: str) -> None:
        super().__init__(what, expected=expected, got=got, next_step=next_step)
        self.cid = cid


class TooLarge(InputError):
    """Make the result smaller, or raise the limit of the repository."""

    http_status = 413


class WrongMediaType(InputError):
    """Send the zip of the result as it is, with Content-Type application/zip."""

    http_status = 415


class WrongContent(InputError):
    """Upload the very result whose digest was revealed."""

    http_status = 422


class TooEarly(Unavailable):
    """The chain has not reached the point where this is due, or our node lags; try again after a block."""


class Busy(Unavailable):
    """Try again in a few seconds."""


class StorageFailed(Unavailable):
    """The operator looks at the disk of the results folder."""


class StorageFull(Unavailable):
    """The operator makes room; uploads work again at once, stored results are served all the while."""

    http_status = 507
