"""Every error of this product, by who must act.

    PoolwrightError
    ├── InputError        the caller gave something wrong: HTTP 4xx, exit code 2
    ├── PeerError         the other side broke the protocol: refuse it, count it, go on
    ├── Unavailable       something outside does not answer: retry with back-off, within a bound
    └── InvariantBroken   a rule of ours does not hold: our bug; stop that task, keep its story

An error carries a stable `code` for programs and says, for people, *what, expected, got, next step*.
It lives in the lowest layer because every layer raises one of these four.
"""


class PoolwrightError(Exception):
    """Base of all errors that this product raises on purpose; never raised itself."""

    exit_code = 1

    def __init__(
        self, what: str, *, code: str = "", expected: str = "", got: str = "", next_step: str = ""
    ) -> None:
        self.what = what
        self.code = code or _kebab(type(self).__name__)
        self.expected = expected
        self.got = got
        self.next_step = next_step
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.what]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.got:
            parts.append(f"got {self.got}")
        text = ", ".join(parts)
        return f"{text}; {self.next_step}" if self.next_step else text


class InputError(PoolwrightError):
    """The caller's input is wrong; correct it and call again."""

    exit_code = 2


class PeerError(PoolwrightError):
    """The other side broke the protocol; it is refused and the rest goes on."""


class Unavailable(PoolwrightError):
    """Something outside does not answer; retried with back-off until its bound."""


class InvariantBroken(PoolwrightError):
    """One of our own rules does not hold; this is a bug of ours, please report it with the story."""


def _kebab(name: str) -> str:
    return "".join(f"-{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
