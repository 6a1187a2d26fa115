"""An environment that keeps which variables were asked for."""

from __future__ import annotations


class Recorder(dict[str, str]):
    """The variables, and in `asked` the names that somebody wanted."""

    def __init__(self, variables: dict[str, str]) -> None:
        super().__init__(variables)
        self.asked: set[str] = set()

    def get(self, name: str, default: object = None) -> str:  # type: ignore[override]  # as it is called
        self.asked.add(name)
        return super().get(name, str(default))
