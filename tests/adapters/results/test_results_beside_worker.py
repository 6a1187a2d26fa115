"""Worker and repository come to the same digest: one reads the folder, the other the zip made of it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from poolwright.compute.outputs import NoDeterminismHash, NotArchivable, read_result, write_archive
from poolwright.results.archive import ZipLimits, result_digests

NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES | st.sampled_from(["a", "b", "\ue000", "🐎"]), min_size=1, max_size=3)
TREES = st.lists(st.tuples(PATHS, st.binary(max_size=50)), min_size=1, max_size=8)


def grow(folder: Path, tree: list[tuple[list[str], bytes]]) -> list[str]:
    """Write what can be written of a random tree; return the paths that an app could name as its output."""
    named = ["/iexec_out"]
    for parts, content in tree:
        path = folder.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:  # a file and a folder at once
            continue
        named += ["/iexec_out/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    return named


@settings(max_examples=150, deadline=None)
@given(tree=TREES, choice=st.integers(0, 99), callback=st.none() | st.binary(min_size=1, max_size=9))
def test_the_zip_stands_for_the_digest_that_the_worker_contributes(tree, choice, callback):
    with tempfile.TemporaryDirectory() as scratch:
        folder, archive = Path(scratch, "iexec_out"), Path(scratch, "result.zip")
        folder.mkdir()
        named = grow(folder, tree)
        about = {"deterministic-output-path": named[choice % len(named)]}
        if callback is not None:
            about["callback-data"] = "0x" + callback.hex()
        (folder / "computed.json").write_text(json.dumps(about))
        (folder / "a link to nowhere").symlink_to("nowhere")
        try:
            contributed = read_result(folder, has_callback=callback is not None)
            write_archive(folder, archive)
        except (NoDeterminismHash, NotArchivable):
            return

        assert contributed.digest in result_digests(archive, ZipLimits())
