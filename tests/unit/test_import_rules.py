"""The import rules of the design, checked over the source as it stands.

1. A package imports only from lower layers.
2. Siblings of one layer never import each other.
3. The pure layers (rules, words, minds) import value modules and pure hashing, ABI and signature libraries
   only: no event loop, clock, randomness, environment, socket, file, log, HTTP or database client.
4. This test enforces 1 to 3 and prints the rule and the offending import.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = "poolwright"
SOURCE = Path(__file__).parents[2] / "src" / ROOT
LAYERS: list[set[str]] = [
    {"poco"},
    {"wire"},
    {"scheduler", "worker", "orderbook"},
    {"chain", "store", "compute", "serving"},
    {"market", "results", "secrets", "dashboard", "daemons"},
    {"cli", "devnet"},
]
PACKAGE_TO_LAYER = {package: level for level, layer in enumerate(LAYERS) for package in layer}
PURE_LAYERS = 3
PURE_MODULES = {
    *(
        "__future__",
        "abc",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "contextlib",
        "copy",
        "dataclasses",
    ),
    *("decimal", "enum", "fractions", "functools", "hashlib", "heapq", "hmac", "itertools", "json", "math"),
    *(
        "operator",
        "re",
        "string",
        "struct",
        "textwrap",
        "types",
        "typing",
        "typing_extensions",
        "unicodedata",
    ),
    *("coincurve", "eth_abi", "sha3"),
}
"""What the pure layers may import; everything else is refused, so a new module needs a reason here."""
IMPURE_BUILTINS = {"__import__", "breakpoint", "eval", "exec", "input", "open", "print"}


def offences(module: str, source: str) -> list[str]:
    """The broken rules of one module, given its dotted name and its text."""
    package = module.split(".")[1] if "." in module else ""
    if not package:
        return []  # the root package holds the version only
    if package not in PACKAGE_TO_LAYER:
        return [f"{module}: package {package!r} stands in no layer; give it one in LAYERS"]
    level = PACKAGE_TO_LAYER[package]
    found: list[str] = []
    tree = ast.parse(source)
    for imported, line in imports(module, tree):
        place = f"{module}:{line} imports {imported}"
        parts = imported.split(".")
        if parts[0] == ROOT:
            other = parts[1] if len(parts) > 1 else ""
            if other == "__version__":
                continue
            if other not in PACKAGE_TO_LAYER:
                found.append(f"{place}: rule 1, {other or ROOT} stands in no layer")
            elif other != package and PACKAGE_TO_LAYER[other] == level:
                found.append(f"{place}: rule 2, siblings {package} and {other} never import each other")
            elif PACKAGE_TO_LAYER[other] > level:
                found.append(
                    f"{place}: rule 1, {package} (L{level}) imports upwards from L{PACKAGE_TO_LAYER[other]}"
                )
        elif level < PURE_LAYERS and parts[0] not in PURE_MODULES:
            found.append(f"{place}: rule 3, {package} is pure and {parts[0]} is not in PURE_MODULES")
    if level < PURE_LAYERS:
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in IMPURE_BUILTINS
            ):
                found.append(f"{module}:{node.lineno} calls {node.func.id}: rule 3, {package} is pure")
    return found


def imports(module: str, tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every imported module or member, absolute, wherever in the file it stands, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                base = ".".join([*above, base] if base else above)
            if base == ROOT:  # "from poolwright import chain"
                for alias in node.names:
                    yield f"{base}.{alias.name}", node.lineno
            else:
                yield base, node.lineno


def modules() -> list[tuple[str, Path]]:
    """Dotted name and file of each module; a package's own file is named package.__init__."""
    return [
        (".".join((ROOT, *path.relative_to(SOURCE).with_suffix("").parts)), path)
        for path in sorted(SOURCE.rglob("*.py"))
        if path.parent != SOURCE
    ]


def test_every_module_keeps_the_import_rules() -> None:
    found = [offence for name, path in modules() for offence in offences(name, path.read_text())]

    assert not found, "\n" + "\n".join(found)


def test_the_check_sees_the_source() -> None:
    assert "poolwright.poco.orders" in [name for name, _ in modules()]


@pytest.mark.parametrize(
    ("module", "source", "rule"),
    [
        (
            "poolwright.poco.tags",
            "from poolwright.wire import codec",
            "rule 1, poco (L0) imports upwards from L1",
        ),
        ("poolwright.wire.codec", "import poolwright.scheduler.task", "rule 1, wire (L1) imports upwards"),
        ("poolwright.chain.rpc", "from ..daemons import loop", "rule 1, chain (L3) imports upwards"),
        ("poolwright.chain.rpc", "from poolwright import devnet", "rule 1, chain (L3) imports upwards"),
        ("poolwright.chain.rpc", "import poolwright.misc", "rule 1, misc stands in no layer"),
        ("poolwright.misc.rpc", "", "stands in no layer; give it one"),
        (
            "poolwright.scheduler.task",
            "from poolwright.worker import slots",
            "rule 2, siblings scheduler and worker",
        ),
        ("poolwright.store.sqlite", "import poolwright.chain.rpc", "rule 2, siblings store and chain"),
        ("poolwright.cli.main", "from poolwright.devnet import anvil", "rule 2, siblings cli and devnet"),
        ("poolwright.poco.tags", "import asyncio", "rule 3, poco is pure and asyncio"),
        ("poolwright.poco.tags", "def f():\n    import time", "poolwright.poco.tags:2 imports time: rule 3"),
        (
            "poolwright.poco.tags",
            "if TYPE_CHECKING:\n    from random import Random",
            "imports random: rule 3",
        ),
        ("poolwright.wire.codec", "from datetime import datetime", "rule 3, wire is pure and datetime"),
        ("poolwright.worker.slots", "import os.path", "rule 3, worker is pure and os"),
        ("poolwright.scheduler.task", "import socket, json", "rule 3, scheduler is pure and socket"),
        ("poolwright.scheduler.task", "import logging", "rule 3, scheduler is pure and logging"),
        ("poolwright.scheduler.task", "from pathlib import Path", "rule 3, scheduler is pure and pathlib"),
        ("poolwright.orderbook.query", "import web3", "rule 3, orderbook is pure and web3"),
        ("poolwright.orderbook.query", "import aiohttp", "rule 3, orderbook is pure and aiohttp"),
        ("poolwright.worker.slots", "text = open('x').read()", "worker.slots:1 calls open: rule 3"),
    ],
)
def test_a_planted_offence_is_found_and_named(module: str, source: str, rule: str) -> None:
    (offence,) = offences(module, source)

    assert rule in offence


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "poolwright.poco.orders",
            "import re\nfrom dataclasses import dataclass\nfrom coincurve import PublicKey",
        ),
        ("poolwright.poco.orders", "from .tags import Tag\nfrom . import ids"),
        ("poolwright.wire.__init__", "from .codec import encode\nfrom ..poco import ids"),
        (
            "poolwright.scheduler.task",
            "from poolwright.wire import codec\nfrom collections.abc import Mapping",
        ),
        ("poolwright.chain.rpc", "import asyncio, aiohttp, time, logging\nfrom poolwright.poco import abi"),
        ("poolwright.daemons.loop", "import poolwright.store.sqlite\nfrom poolwright.chain import rpc"),
        ("poolwright.daemons.health", "from poolwright import __version__"),
        ("poolwright.cli.main", "from poolwright.daemons import loop\nfrom poolwright.poco import ids"),
    ],
)
def test_what_the_rules_allow_is_no_offence(module: str, source: str) -> None:
    assert offences(module, source) == []
