"""Our CIDs equal those of the maintained importer, at every size where the shape of the tree changes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from poolwright.results.cid import LEAF_BYTES, LINKS_PER_NODE, FileCid, cid_v1

FULL_NODE = LEAF_BYTES * LINKS_PER_NODE
"""Bytes under one full parent: about 45.6 MB."""
SIZES = [0, 1, 2, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 2 * LEAF_BYTES, 2 * LEAF_BYTES + 7]
LARGE_SIZES = [FULL_NODE - LEAF_BYTES, FULL_NODE - 1, FULL_NODE, FULL_NODE + 1, FULL_NODE + LEAF_BYTES + 3]
PIECE_BYTES = 65_000
"""Deliberately no divisor of a leaf."""


def stream_cid(path: Path, *shape: int) -> str:
    cid = FileCid(*shape)
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            cid.update(piece)
    return cid.finish()


@pytest.mark.parametrize("sizes", [SIZES, LARGE_SIZES], ids=["leaves", "levels"])
def test_default_shape_gives_the_cid_of_ipfs_add(sizes, tmp_path, oracle_cids):
    pattern = random.Random(1).randbytes(1_000_003)
    paths = []
    for size in sizes:
        path = tmp_path / str(size)
        with path.open("wb") as file:
            for start in range(0, size, len(pattern)):
                file.write(pattern[: size - start])
        paths.append(path)

    expected = oracle_cids([(path, LEAF_BYTES, LINKS_PER_NODE) for path in paths])

    ours = [stream_cid(path) for path in paths]
    assert ours == [cid["v0"] for cid in expected]
    assert [cid_v1(cid) for cid in ours] == [cid["v1"] for cid in expected]


def test_deep_trees_of_any_width_agree(tmp_path, oracle_cids):
    """Levels two to twelve deep, complete and ragged, reached with small leaves."""
    kinds = [(1, 2), (16, 3), (16, LINKS_PER_NODE)]
    shapes = [(leaf, width, leaves) for leaf, width in kinds for leaves in edges(width)]
    rng = random.Random(2)
    questions = []
    for number, (leaf, width, leaves) in enumerate(shapes):
        path = tmp_path / str(number)
        path.write_bytes(rng.randbytes(leaf * leaves - rng.randrange(leaf)))
        questions.append((path, leaf, width))

    expected = oracle_cids(questions)

    assert [stream_cid(*question) for question in questions] == [cid["v0"] for cid in expected]


def edges(width: int) -> list[int]:
    """Numbers of leaves around the point where each of two more levels begins."""
    powers = [width, width**2] if width > 3 else [width, width**2, width**5, width**8]
    return [power + step for power in powers for step in (-1, 0, 1, width - 1, width)]
