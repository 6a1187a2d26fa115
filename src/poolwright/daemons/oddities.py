"""What is odd about a deal: said when it comes, in the log, in its tasks' stories, to whoever asks why.

Nothing odd is a reason to skip a deal: its tasks take their way, to the claim at last if there is no other,
so that the requester is refunded and the workers' stakes come free.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from poolwright.compute.environment import split_arguments
from poolwright.poco.deadlines import contribution_deadline, final_deadline
from poolwright.poco.errors import InputError
from poolwright.poco.tags import GPU, TEE, TEE_FRAMEWORKS, Tag
from poolwright.poco.types import Seconds, Timestamp

SERVED: Final = TEE | TEE_FRAMEWORKS | GPU
"""The flags that a worker can offer; any other one nobody can."""
MOST_SHOWN: Final = 60


def oddities(
    *, tag: Tag, params: str, start_time: Timestamp, timeref: Seconds, now: Timestamp
) -> tuple[str, ...]:
    """What is odd about a deal that comes at `now` (chain time), each in a sentence; mostly nothing."""
    return (*_lateness(start_time, timeref, now), *_tag_problems(tag), *_params_problems(params))


def _lateness(start: Timestamp, timeref: Seconds, now: Timestamp) -> Iterator[str]:
    closed, final = contribution_deadline(start, timeref), final_deadline(start, timeref)
    if now >= final:
        yield f"the deal comes after its final deadline {final}: its tasks are claimed at once"
    elif now >= closed:
        yield (
            f"the deal comes after its contribution deadline {closed}: nobody can contribute any more, "
            f"its tasks are claimed at {final}"
        )


def _tag_problems(tag: Tag) -> Iterator[str]:
    unknown = SERVED.lacks(tag)
    if unknown:
        yield f"the deal demands {', '.join(unknown.names)}, which no worker can offer"
    frameworks = tag & TEE_FRAMEWORKS
    if frameworks and not tag & TEE:
        yield f"the deal demands {', '.join(frameworks.names)} without tee"
    if frameworks.bit_count() > 1:
        yield f"the deal demands {' and '.join(frameworks.names)} at once, which no enclave is"


def _params_problems(params: str) -> Iterator[str]:
    """As a worker reads them (reference `scheduler-worker.md` 5.3): JSON, or else all is the command."""
    try:
        fields = json.loads(params) if params.strip() else {}
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        yield f"the deal's params are no JSON object; the whole text is the command: {_shown(params)}"
        fields = {"iexec_args": params}
    files = fields.get("iexec_input_files", [])
    if not isinstance(files, list | str):
        yield f"iexec_input_files: expected a list, got {_shown(files)}; no file is downloaded"
    command = fields.get("iexec_args", "") or ""
    try:
        split_arguments(str(command))
    except InputError as problem:
        yield f"{problem.what}, {problem.got}: the app cannot start"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "..."
