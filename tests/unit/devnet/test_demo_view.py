"""What the demo prints: entries, results, previews, the ledger."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from hub_in_memory import HUB, NAMES, TOKEN, WHO, HubInMemory
from rich.console import Console

from poolwright.devnet import timeline as timelines
from poolwright.devnet.demo_view import entry_line, ledger_lines, preview, result_lines, timeline_block
from poolwright.devnet.ledger import expected, lines, movements
from poolwright.devnet.retrieval import Result
from poolwright.devnet.timeline import Fact, Status, Timeline
from poolwright.poco.types import BlockNumber, Hash32, NRlc, TaskId, Timestamp, TxHash

TX = TxHash(Hash32(b"\x12\x34\x56\x78" + bytes(28)))


def fact(task: int | None, name: str, worker: str = "") -> Fact:
    return Fact(
        task=task,
        name=name,
        worker=worker,
        block=BlockNumber(45),
        date=Timestamp(1_000),
        tx_hash=TX,
        log_index=0,
        seconds=3.14,
    )


def status(cause: str = "") -> Status:
    return Status(
        task=2,
        worker="worker-1",
        place=0,
        status="COMPUTE_FAILED",
        cause=cause,
        date=Timestamp(1),
        seconds=61.0,
    )


def result(folder: Path, *files: str) -> Result:
    return Result(
        index=1,
        task_id=TaskId(Hash32.zero()),
        cid="QmResult",
        digest=Hash32(b"\xaa" * 32),
        zip_path=folder / "1.zip",
        folder=folder,
        files=tuple(Path(name) for name in files),
    )


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (
            fact(None, "OrdersMatched"),
            "   +3.1 s  deal    chain     OrdersMatched    block 45     tx 0x12345678…",
        ),
        (
            fact(0, "TaskReveal", "worker-2"),
            "   +3.1 s  task 0  chain     TaskReveal by worker-2       block 45     tx 0x12345678…",
        ),
        (status("APP_TIMEOUT"), "  +61.0 s  task 2  worker-1  COMPUTE_FAILED  APP_TIMEOUT"),
        (status(), "  +61.0 s  task 2  worker-1  COMPUTE_FAILED"),
    ],
)
def test_an_entry_is_one_line(entry: Fact | Status, line: str) -> None:
    assert entry_line(entry) == line


def test_a_result_tells_cid_digest_and_place_but_not_computed_json(tmp_path: Path) -> None:
    told = "\n".join(result_lines(result(tmp_path, "computed.json", "report/report.txt")))

    assert "/ipfs/QmResult" in told
    assert "0x" + "aa" * 32 in told
    assert f"unpacked to {tmp_path}: report/report.txt" in told
    assert "computed.json" not in told


def test_a_text_is_previewed_by_its_first_lines(tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_text("\n".join(f"line {n}\x1b" for n in range(30)))
    (tmp_path / "report.json").write_text("{}")

    told = preview([result(tmp_path, "report.json", "report.txt")], colours=False)

    assert told[0].endswith("report.txt:")
    assert told[1] == "  line 0 "
    assert told[-1] == "  …"
    assert len(told) == 18


def test_a_picture_is_shown_only_where_colours_are(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 1, 2, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes([0, 1, 2, 3, 0, 4, 5, 6]))), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    (tmp_path / "a.png").write_bytes(png)
    found = [result(tmp_path, "a.png")] * 2

    assert preview(found, colours=True) == ["\x1b[38;2;1;2;3m\x1b[48;2;4;5;6m▀" * 2 + "\x1b[0m"]
    assert preview(found, colours=False) == []


def test_a_damaged_picture_is_told_not_raised(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")

    assert "no preview of a.png" in preview([result(tmp_path, "a.png")], colours=True)[0]


def test_nothing_to_show_is_nothing(tmp_path: Path) -> None:
    assert preview([result(tmp_path, "computed.json", "model.bin")], colours=True) == []


class Ledgered:
    """A deal of one task that worker-1 did, between the balances before and after."""

    def __init__(self) -> None:
        self.hub = HubInMemory()
        self.before, self.first = self.hub.balances(), len(self.hub.logs)
        self.deal_id = self.hub.deal(app_price=1_000, pool_price=25_000)
        self.ended = self.hub.run(self.hub.initialize(self.deal_id), "worker-1")

    def told(self) -> list[str]:
        accounts = {name: (name, WHO[name]) for name in ("requester", "worker-1", "worker-2")}
        moved = movements(self.hub.logs[self.first :], hub=HUB, token=TOKEN)
        wanted = expected(self.deal_id, self.hub.poco.deal(self.deal_id), [self.ended], moved, NRlc(0))
        return ledger_lines(lines(accounts, self.before, self.hub.balances(), moved), wanted, 8, 20)


def test_the_ledger_shows_before_after_reasons_and_sums() -> None:
    told = Ledgered().told()

    assert told[0] == "Ledger of blocks 8 to 20, in RLC"
    assert told[2].split() == ["requester", "before", "500", "500", "0", "1000"]
    assert told[3].split() == ["after", "500", "499.999974", "0", "999.999974"]
    assert told[4].strip() == "lock 0.000026, seize 0.000026"
    assert told[7].strip() == "lock 0.0000075, unlock 0.0000075, reward 0.00002475"
    assert told[10].strip() == "nothing moved"
    assert told[-2].split() == ["all", "before", "1500", "1500", "0", "3000"]


def test_the_deals_part_is_told_apart_where_others_moved_money_too() -> None:
    ledgered = Ledgered()
    ledgered.hub.deposit("worker-2", 10**9)

    told = [line.strip() for line in ledgered.told()]

    assert told[told.index("deposit 2") + 1] == "of which this deal: nothing moved"


def watched() -> Timeline:
    hub = HubInMemory()
    deal_id = hub.deal(tasks=2)
    seen = timelines.opened(deal_id, 0, 2, NAMES, hub.logs)
    hub.run(hub.initialize(deal_id), "worker-1")
    return timelines.with_logs(seen, hub.logs, 2.0)


@pytest.mark.parametrize("room", [4, None])
def test_a_timeline_takes_no_more_lines_than_it_may(room: int | None) -> None:
    console = Console(width=100, force_terminal=False)
    with console.capture() as captured:
        console.print(timeline_block(watched(), room))
    told = captured.get().splitlines()

    assert told[0].startswith("deal 0x")
    assert [line.split()[-1] for line in told if line.startswith("task ")] == ["COMPLETED", "RECEIVED"]
    assert "TaskFinalize" in captured.get()
    assert ("TaskInitialize" in captured.get()) is (room is None)
