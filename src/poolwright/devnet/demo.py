"""`poolwright demo`: a real task on the local network, from orders to results and payment, before your eyes.

    registers app and dataset ─► signs and matches orders ─► watches the deal ─► downloads and verifies the
    results ─► shows the ledger, which must reconcile with the chain to the last nRLC

It uses the network of the state folder. When none is up there it starts one, and ends it afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from poolwright.chain.blocks import check_chain
from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.logs import transaction_logs
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import MemoryTxJournal, Receipt, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.devnet import dealing, engine, examples, network, timeline
from poolwright.devnet.accounting import Books, Ledger
from poolwright.devnet.amounts import format_rlc
from poolwright.devnet.anvil import free_port, refuse_taken_port
from poolwright.devnet.demo_outcome import Outcome
from poolwright.devnet.demo_view import Display, ledger_lines, preview, result_lines
from poolwright.devnet.examples import Example
from poolwright.devnet.folder import StateFolder
from poolwright.devnet.parts import HOST
from poolwright.devnet.record import NetworkRecord, require_network
from poolwright.devnet.retrieval import Result, retrieve
from poolwright.devnet.timeline import Timeline, short
from poolwright.devnet.watching import Watch, require_completed, require_successful_apps
from poolwright.poco.deadlines import final_deadline
from poolwright.poco.errors import InputError, InvariantBroken
from poolwright.poco.orders import Domain
from poolwright.poco.records import Deal
from poolwright.poco.rewards import task_price
from poolwright.poco.types import Address, DealId

FOLDER = "demo"
"""Below the state folder: results by deal and task."""
HEAD_SECONDS = 0.2
"""How often the demo looks for a new block where the node does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the user asks of `poolwright demo`."""

    state: Path
    app: str
    terms: dealing.Terms
    timeout_seconds: float | None = None
    keep: bool = False
    """Leave a network up that the demo started."""


def run(options: DemoOptions, display: Display) -> Outcome:
    """Run the demo; raises what stands in its way, DealFailed and InvariantBroken above all.

    InvariantBroken means that the ledger does not reconcile.
    """
    options.terms.check()
    example = examples.find(options.app)
    folder = StateFolder(options.state.absolute())
    is_ours = network.running_supervisor(folder) is None
    if is_ours:
        network.up_detached(_network_options(options.state), display.say)
    try:
        demo = _Demo(options, require_network(folder), example, display, folder.part(FOLDER))
        return asyncio.run(demo.run())
    finally:
        if is_ours and not options.keep:
            network.down(options.state, display.say)


def _network_options(state: Path) -> network.UpOptions:
    """The usual ports where they are free: a demo need not fail for a port that nobody asked for."""
    usual = network.UpOptions(state=state)

    def port(wanted: int) -> int:
        try:
            refuse_taken_port(HOST, wanted, option="")
        except InputError:
            return free_port(HOST)
        return wanted

    return network.UpOptions(
        state=state,
        chain_port=port(usual.chain_port),
        results_port=port(usual.results_port),
        scheduler_port=port(usual.scheduler_port),
        market_port=port(usual.market_port),
    )


class _Demo:
    """One run against one network."""

    def __init__(
        self, options: DemoOptions, record: NetworkRecord, example: Example, display: Display, folder: Path
    ) -> None:
        self._options = options
        self._terms = options.terms
        self._record = record
        self._example = example
        self._display = display
        self._say: Callable[[str], None] = display.say
        self._folder = folder
        self._names: dict[Address, str] = {each.address: name for name, each in record.wallets.items()}

    async def run(self) -> Outcome:
        async with AsyncExitStack() as stack:
            self._rpc = await stack.enter_async_context(Rpc(self._record.chain_url))
            self._http = await stack.enter_async_context(aiohttp.ClientSession())
            await check_chain(self._rpc, self._record.chain_id, self._record.hub)
            self._heads = await stack.enter_async_context(Heads(self._rpc, poll_seconds=HEAD_SECONDS))
            self._hub = HubReader(self._rpc, self._record.hub)
            books = Books(rpc=self._rpc, hub=self._hub, record=self._record)
            await books.open(await self._heads.beyond(None))
            domain = Domain(chain_id=self._record.chain_id, hub=self._record.hub)
            deal_id, receipt = await self._make_deal(stack, domain)
            deal, seen = await self._watch(deal_id, receipt)
            require_completed(seen)
            results = await self._retrieve(deal_id, seen)
            for line in preview(results, colours=self._display.colours):
                self._say(line)
            ledger = await books.close(deal, seen, await self._heads.beyond(seen.last_block - 1))
            self._settle(deal, ledger)
            require_successful_apps(seen)
            return Outcome(
                record=self._record,
                example=self._example,
                deal=deal,
                receipt=receipt,
                timeline=seen,
                results=results,
                ledger=ledger,
            )

    # --- before the deal ------------------------------------------------------------------------------------

    async def _make_deal(self, stack: AsyncExitStack, domain: Domain) -> tuple[DealId, Receipt]:
        image, provider, manager, requester = await asyncio.gather(
            examples.build(self._example.name, host=engine.require(), say=self._say),
            dealing.open_wallet(self._record, "provider"),
            dealing.open_wallet(self._record, "manager"),
            dealing.open_wallet(self._record, "requester"),
        )
        provider_sends = await self._sender(stack, provider)
        requester_sends = await self._sender(stack, requester)
        self._say(f"app      {self._example.name}: {self._example.summary}")
        self._say(f"image    {image.name}, {image.size_bytes / 1e6:.0f} MB")
        app, app_receipt = await dealing.registered_app(
            self._hub, self._record, provider_sends, name=self._example.name, image=image
        )
        self._say(f"         {app} {_registration(app_receipt)}")
        dataset = Address.zero()
        if self._example.dataset_path is not None:
            dataset, dataset_receipt = await dealing.registered_dataset(
                self._hub, self._record, provider_sends, path=self._example.dataset_path, http=self._http
            )
            self._say(f"dataset  {self._example.dataset_path.name}")
            self._say(f"         {dataset} {_registration(dataset_receipt)}")
        traded = dealing.Traded(app=app, dataset=dataset, workerpool=self._record.workerpool)
        await self._check(has_dataset=bool(dataset), manager=manager.address, requester=requester.address)
        orders = dealing.signed_orders(
            dealing.unsigned_orders(traded, self._terms, requester.address, dealing.random_salt()),
            domain,
            provider=provider,
            manager=manager,
            requester=requester,
        )
        kinds = "apporder, datasetorder" if dataset else "apporder"
        self._say(f"signed   {kinds}, workerpoolorder, requestorder; tasks: {self._terms.tasks}")
        deal_id, receipt = await dealing.match(self._hub, orders, domain, requester_sends)
        self._say(f"matched  deal {deal_id}")
        self._say(f"         block {receipt.block.number}, tx {receipt.tx_hash}, {receipt.gas_used} gas")
        return deal_id, receipt

    async def _sender(self, stack: AsyncExitStack, wallet: Wallet) -> TxSender:
        sender = TxSender(
            self._rpc,
            wallet,
            self._record.chain_id,
            MemoryTxJournal(),
            GasPolicy(),
            heads=self._heads,
            look_seconds=HEAD_SECONDS,
        )
        return await stack.enter_async_context(sender)

    async def _check(self, *, has_dataset: bool, manager: Address, requester: Address) -> None:
        """What would make the deal impossible, said before it costs anything."""
        await self._hub.category(self._terms.category)
        pool = await dealing.fetch_json(self._http, f"{self._record.scheduler_url}/pool", "scheduler")
        workers = dealing.connected_workers(pool)
        self._names = workers | self._names
        info = await self._hub.workerpool(self._record.workerpool)
        (payer, owner), able = await asyncio.gather(
            dealing.purses(self._hub, {requester: "requester", manager: "manager"}),
            dealing.purses(self._hub, workers),
        )
        dealing.check_money(
            self._terms,
            has_dataset=has_dataset,
            worker_stake_ratio=info.worker_stake_ratio,
            requester=payer,
            manager=owner,
            workers=able,
        )

    # --- the deal -------------------------------------------------------------------------------------------

    async def _watch(self, deal_id: DealId, receipt: Receipt) -> tuple[Deal, Timeline]:
        details = await self._hub.deal_with_details(deal_id, receipt.block)
        deal = details.deal
        seen = timeline.opened(
            deal_id,
            deal.bot_first,
            deal.bot_size,
            self._names,
            await transaction_logs(self._rpc, receipt.tx_hash),
        )
        watch = Watch(
            rpc=self._rpc,
            http=self._http,
            heads=self._heads,
            hub=self._record.hub,
            scheduler_url=self._record.scheduler_url,
            timeline=seen,
            first_block=receipt.block.number,
            final_deadline=final_deadline(deal.start_time, details.category.timeref),
            on_change=self._display.show,
            timeout_seconds=self._options.timeout_seconds,
        )
        with self._display:
            self._display.show(seen, seen.entries)
            return deal, await watch.until_ended()

    async def _retrieve(self, deal_id: DealId, seen: Timeline) -> tuple[Result, ...]:
        tasks = await self._hub.tasks(list(seen.tasks))
        folder = self._folder / f"0x{deal_id[:8].hex()}"
        results = []
        for task_id, task in zip(seen.tasks, tasks, strict=True):
            result = await retrieve(self._http, self._record.results_url, task_id, task, folder)
            for line in result_lines(result):
                self._say(line)
            results.append(result)
        return tuple(results)

    def _settle(self, deal: Deal, ledger: Ledger) -> None:
        """Show the ledger, and that it fits. Raises InvariantBroken when it does not."""
        for line in ledger_lines(ledger.lines, ledger.expected, ledger.first_block, ledger.last_block):
            self._say(line)
        if ledger.wrong:
            raise InvariantBroken(
                "the ledger does not reconcile\n" + "\n".join(f"  {line}" for line in ledger.wrong),
                code="ledger-broken",
                next_step="please report it with this output and `poolwright logs`",
            )
        self._say(
            f"The ledger reconciles to the last nRLC: the logs explain every balance, and the deal moved "
            f"what the rules say ({len(ledger.expected)} movements)."
        )
        self._say(f"Paid: {deal.bot_size} x {format_rlc(task_price(deal))} RLC.")


def _registration(receipt: Receipt | None) -> str:
    if receipt is None:
        return "was registered before"
    return f"registered in block {receipt.block.number}, tx {short(receipt.tx_hash)}"
