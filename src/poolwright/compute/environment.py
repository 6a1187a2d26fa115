"""What an app is told: its environment, its arguments, and the names of its input files, as pure functions.

The names and values are those that apps of the network know (scheduler-worker.md section 9.5), so that an
app written for the existing workers runs unchanged.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from hashlib import sha256

from poolwright.compute.port import IEXEC_IN, IEXEC_OUT
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, DealId, TaskId


def app_environment(
    *,
    task_id: TaskId,
    deal_id: DealId,
    index: int,
    bot_first: int,
    bot_size: int,
    dataset: Address | None,
    input_files: Sequence[str] = (),
) -> dict[str, str]:
    """The environment variables of a standard task, exactly these; `input_files` are URLs, in order."""
    dataset_name = dataset_file_name(dataset or Address.zero())
    environment = {
        "IEXEC_TASK_ID": str(task_id),
        "IEXEC_DEAL_ID": str(deal_id),
        "IEXEC_TASK_INDEX": str(index),
        "IEXEC_IN": IEXEC_IN,
        "IEXEC_OUT": IEXEC_OUT,
        "IEXEC_BOT_SIZE": str(bot_size),
        "IEXEC_BOT_FIRST_INDEX": str(bot_first),
        "IEXEC_BOT_TASK_INDEX": str(index),
        "IEXEC_DATASET_ADDRESS": dataset_name,
        "IEXEC_DATASET_FILENAME": dataset_name,
        "IEXEC_INPUT_FILES_NUMBER": str(len(input_files)),
    }
    if input_files:
        environment["IEXEC_INPUT_FILES_FOLDER"] = IEXEC_IN
    for number, url in enumerate(input_files, start=1):
        environment[f"IEXEC_INPUT_FILE_NAME_{number}"] = input_file_name(url)
    return environment


def dataset_file_name(dataset: Address) -> str:
    """The dataset's file in /iexec_in: its address in lower case, as existing workers write it."""
    return "0x" + dataset.hex()


def input_file_name(url: str) -> str:
    """An input file's name in /iexec_in: the sha256 of its URL's text, 0x and 64 lower-case digits."""
    return "0x" + sha256(url.encode()).hexdigest()


def split_arguments(text: str) -> tuple[str, ...]:
    """The app's arguments from the request's `iexec_args`, split as a shell does, run by none.

    Raises InputError for a quotation that does not end.
    """
    try:
        return tuple(shlex.split(text))
    except ValueError as problem:
        raise InputError(
            "the request's iexec_args cannot be split into arguments",
            code="bad-arguments",
            expected="balanced quotes",
            got=f"{text[:100]!r} ({problem})",
            next_step="correct the quotes and order again",
        ) from problem
