"""What the `init` verbs write: the official client's templates (reference: market-sdk.md 1.2, 1.5). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PROJECT: Final[Mapping[str, Any]] = {
    "description": (
        "My iExec resource description, must be at least 150 chars long in order to pass the validation "
        "checks. Describe your application, dataset or workerpool to your users"
    ),
    "license": "MIT",
    "author": "?",
    "social": {"website": "?", "github": "?"},
    "logo": "logo.png",
}
"""iexec.json of a new folder."""
CATEGORY: Final[Mapping[str, str]] = {
    "name": "XXL",
    "description": "new hub category",
    "workClockTimeRef": "100",
}


def resource(kind: str, owner: str) -> dict[str, str]:
    """The part of iexec.json that describes an app, a dataset or a workerpool before it is deployed."""
    return {"owner": owner, **_RESOURCES[kind]}


_RESOURCES: Final[Mapping[str, Mapping[str, str]]] = {
    "app": {
        "name": "hello-world",
        "type": "DOCKER",
        "multiaddr": "iexechub/python-hello-world:8.0.4",
        "checksum": "0xb0b664b7a6d249f81c067a9262b1763144eeb3ca63e553567f71673442ce9e84",
    },
    "dataset": {
        "name": "my-dataset",
        "multiaddr": "/ipfs/QmW2WQi7j6c7UgJTarActp7tDNikE4B2qXtFCfLPdsgaTQ",
        "checksum": "0x0000000000000000000000000000000000000000000000000000000000000000",
    },
    "workerpool": {"description": "my-workerpool"},
}
