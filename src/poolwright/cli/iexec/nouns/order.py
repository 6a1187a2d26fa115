"""`iexec order`: write, sign, publish, match and cancel the four kinds of orders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from poolwright.cli.iexec import files
from poolwright.cli.iexec.command import Noun, Outcome, Run, Shared
from poolwright.cli.iexec.errors import IexecError, ValidationError, message_of
from poolwright.cli.iexec.order_forms import KIND_TO_CLASS, NOBODY, PARTS, read_draft, read_signed, template
from poolwright.cli.iexec.render import tree
from poolwright.poco.errors import InputError, PoolwrightError
from poolwright.poco.orders import Order
from poolwright.poco.types import Hash32

if TYPE_CHECKING:
    from poolwright.cli.iexec.market_client import MarketClient
    from poolwright.cli.iexec.session import Session

COMMAND = order = Noun("order", "Orders: what apps, datasets and workerpools cost, and what requesters pay.")

SKIP_PREFLIGHT: Final = click.option(
    "--skip-preflight-check", is_flag=True, help="Skip preflight checks; tasks may fail."
)


def part_flags(help_text: str) -> Callable[[Any], Any]:
    """--app --dataset --workerpool --request as flags."""

    def add(work: Any) -> Any:
        for part in reversed(PARTS):
            work = click.option(f"--{part}", is_flag=True, help=f"{help_text} the {part}order.")(work)
        return work

    return add


def part_hashes(help_text: str) -> Callable[[Any], Any]:
    """The same, each with an optional order hash; without it the order of orders.json is meant."""

    def add(work: Any) -> Any:
        for part in reversed(PARTS):
            work = click.option(
                f"--{part}",
                is_flag=False,
                flag_value="",
                metavar="[orderHash]",
                help=f"{help_text} a {part}order, that of orders.json if no hash is given.",
            )(work)
        return work

    return add


# --- init, sign ---------------------------------------------------------------------------------------------


@order.verb("init", Shared.WALLET, Shared.CHAIN, example="iexec order init --workerpool")
@part_flags("Initialize")
def init(run: Run, **parts: bool) -> Outcome:
    """Write default orders into iexec.json, ready to be edited; without an option all four kinds."""
    chain = run.chain()
    wallet = str(run.wallet_address())
    project = files.read_project(run.folder)
    drafts: dict[str, Any] = {}
    for kind in chosen(parts) or files.ORDER_KINDS:
        part = kind.removesuffix("order")
        resource = files.deployed_address(run.folder, part, chain.id) if part in files.RESOURCES else None
        if part in files.RESOURCES and resource is None:
            run.out.warn(f"deployed.json has no {part} on chain {chain.id}: fill in {kind}.{part} yourself")
        drafts[kind] = template(kind, resource=resource or NOBODY, wallet=wallet)
    former = project.get("order")
    orders = {**(former if isinstance(former, dict) else {}), **drafts}
    files.write_json(run.folder, files.IEXEC_FILE, {**project, "order": orders})
    return Outcome(
        text=f"Saved default {', '.join(drafts)} in {files.IEXEC_FILE}, you can edit "
        f"{'it' if len(drafts) == 1 else 'them'}:",
        fields=drafts,
        shown=next(iter(drafts.values())) if len(drafts) == 1 else drafts,
    )


@order.verb("sign", Shared.WALLET, Shared.CHAIN, Shared.FORCE, example="iexec order sign --workerpool")
@part_flags("Sign")
@SKIP_PREFLIGHT
async def sign(run: Run, skip_preflight_check: bool, **parts: bool) -> Outcome:
    """Sign the orders of iexec.json and save them in orders.json; without an option all four kinds."""
    from poolwright.cli.iexec import order_chain

    project = files.read_project(run.folder)
    async with run.session() as session:

        async def sign_one(kind: str) -> Any:
            written = project.get("order")
            written = written.get(kind) if isinstance(written, dict) else None
            if not isinstance(written, dict):
                raise IexecError(
                    f'Missing "order.{kind}" in "{files.IEXEC_FILE}"',
                    next_step=f'run "iexec order init --{kind.removesuffix("order")}" and edit it',
                )
            draft = read_draft(kind, written, order_chain.fresh_salt())
            checked = await order_chain.preflight(
                session, draft, orders_beside(run, session), skip=skip_preflight_check
            )
            order_chain.tell_warnings(run, checked)
            order_chain.tell_prices(run, draft)
            signed = await order_chain.signed(session, draft, checked.signer)
            document = signed.to_json()
            files.save_order(run.folder, session.chain.id, kind, document)
            return document

        return await each_part(
            chosen(parts) or files.ORDER_KINDS,
            sign_one,
            f"Successfully signed and stored in {files.ORDERS_FILE}",
            "Failed to sign",
        )


# --- publish, unpublish -------------------------------------------------------------------------------------


@order.verb("publish", Shared.WALLET, Shared.CHAIN, Shared.FORCE, example="iexec order publish --workerpool")
@part_flags("Publish")
@SKIP_PREFLIGHT
async def publish(run: Run, skip_preflight_check: bool, **parts: bool) -> Outcome:
    """Publish signed orders of orders.json on the marketplace."""
    from poolwright.cli.iexec import order_chain

    kinds = some_of(parts)
    saved = files.read_orders(run.folder)
    async with run.session() as session:

        async def publish_one(kind: str) -> Any:
            signed = order_of(saved, session.chain.id, kind)
            hash_ = await order_chain.hash_of(session, signed)
            consumed = await session.reader.consumed(hash_)
            checked = await order_chain.preflight(
                session, signed, orders_beside(run, session), skip=skip_preflight_check, consumed=consumed
            )
            if not await order_chain.is_signed(session, checked.signer, hash_, signed.sign):
                raise IexecError(
                    f"{kind} invalid sign",
                    expected=f"a signature of {checked.signer} on this chain's hub",
                    next_step=f'sign it again with "iexec order sign --{kind.removesuffix("order")}"',
                )
            order_chain.tell_warnings(run, checked)
            order_chain.tell_prices(run, signed)
            document = signed.to_json()
            run.confirm(f"Do you want to publish the following {kind}?\n{tree(document)}\n")
            async with market_of(session) as market:
                with run.out.working(f"Publishing {kind}"):
                    published = await market.publish(kind, document, await session.wallet())
            return {"orderHash": published}

        return await each_part(kinds, publish_one, "Successfully published", "Failed to publish")


@order.verb(
    "unpublish",
    Shared.WALLET,
    Shared.CHAIN,
    Shared.FORCE,
    example="iexec order unpublish --workerpool 0x5c1e…",
)
@part_hashes("Unpublish")
async def unpublish(run: Run, **parts: str | None) -> Outcome:
    """Take orders off the marketplace. They stay valid on the chain: use cancel to invalidate them."""
    from poolwright.cli.iexec import order_chain

    kinds = some_of(parts)
    async with run.session() as session:

        async def unpublish_one(kind: str) -> Any:
            hash_ = parts[kind.removesuffix("order")]
            if hash_:
                hash32(hash_)
                run.confirm(f"Do you want to unpublish the {kind} {hash_}?")
            else:
                signed = order_of(files.read_orders(run.folder), session.chain.id, kind)
                hash_ = str(await order_chain.hash_of(session, signed))
                run.confirm(f"Do you want to unpublish the following {kind}?\n{tree(signed.to_json())}\n")
            async with market_of(session) as market:
                return {"orderHash": await market.unpublish(kind, hash_, await session.wallet())}

        # A request leaves the market with the last offer that could serve it: so it goes first.
        order_of_work = kinds[::-1]
        outcome = await each_part(
            order_of_work, unpublish_one, "Successfully unpublished", "Failed to unpublish"
        )
    run.out.note("an unpublished order can still be matched by whoever has it; `iexec order cancel` ends it")
    return outcome


# --- cancel, show -------------------------------------------------------------------------------------------


@order.verb(
    "cancel",
    Shared.WALLET,
    Shared.CHAIN,
    Shared.CONFIRMS,
    Shared.FORCE,
    example="iexec order cancel --workerpool 0x5c1e…",
)
@part_hashes("Cancel")
async def cancel(run: Run, **parts: str | None) -> Outcome:
    """Invalidate signed orders on the chain, for good; what orders.json lacks is looked up in the market."""
    from poolwright.cli.iexec import order_chain
    from poolwright.poco import calls
    from poolwright.poco.records import OrderOperation

    kinds = some_of(parts)
    manage: dict[str, Callable[..., bytes]] = {
        "apporder": calls.manage_app_order,
        "datasetorder": calls.manage_dataset_order,
        "workerpoolorder": calls.manage_workerpool_order,
        "requestorder": calls.manage_request_order,
    }
    async with run.session() as session:

        async def cancel_one(kind: str) -> Any:
            signed = await order_by(run, session, kind, parts[kind.removesuffix("order")] or None)
            hash_ = await order_chain.hash_of(session, signed)
            if await session.reader.consumed(hash_) >= signed.volume:
                raise IexecError(f"{kind} already canceled", got=f"no volume left of {hash_}")
            signer, owner = run.wallet_file().address, await order_chain.signer_of(session, signed)
            if signer != owner:
                raise IexecError(
                    f"Only {owner} can cancel this {kind}",
                    got=str(signer),
                    next_step="choose the wallet with --wallet-address",
                )
            run.confirm(f"Do you want to cancel the following {kind}?\n{tree(signed.to_json())}\n")
            call = manage[kind](signed, OrderOperation.CLOSE, b"")
            receipt = await session.send(session.hub, call, f"cancel {kind} {hash_}")
            return {"txHash": str(receipt.tx_hash)}

        return await each_part(kinds, cancel_one, "Successfully canceled", "Failed to cancel")


@order.verb("show", Shared.CHAIN, example="iexec order show --workerpool 0x5c1e… --deals")
@part_hashes("Show")
@click.option("--deals", is_flag=True, help="Show the deals made with the order, too.")
async def show(run: Run, deals: bool, **parts: str | None) -> Outcome:
    """Show published orders: what they say, what is left of them, and their status."""
    from poolwright.cli.iexec import order_chain

    kinds = some_of(parts)
    async with run.session() as session:

        async def show_one(kind: str) -> Any:
            hash_ = parts[kind.removesuffix("order")]
            if hash_:
                hash32(hash_)
            else:
                signed = order_of(files.read_orders(run.folder), session.chain.id, kind)
                hash_ = str(await order_chain.hash_of(session, signed))
            async with market_of(session) as market:
                found = {
                    name: value for name, value in (await market.order(kind, hash_)).items() if name != "ok"
                }
                if deals:
                    made = await market.deals({f"{kind}Hash": hash_})
                    found["deals"] = {"count": made.get("count"), "lastDeals": made.get("deals")}
            return found

        return await each_part(kinds, show_one, "Published orders", "Failed to show")


# --- fill ---------------------------------------------------------------------------------------------------


@order.verb(
    "fill",
    Shared.WALLET,
    Shared.CHAIN,
    Shared.CONFIRMS,
    Shared.FORCE,
    example='iexec order fill --workerpool 0x5c1e… --params \'{"iexec_args":"--hello"}\'',
)
@click.option("--app", metavar="<orderHash>", help="Take this apporder from the market.")
@click.option("--dataset", metavar="<orderHash>", help="Take this datasetorder from the market.")
@click.option("--workerpool", metavar="<orderHash>", help="Take this workerpoolorder from the market.")
@click.option("--request", metavar="<orderHash>", help="Take this requestorder from the market.")
@click.option("--params", metavar="<json>", help="Make and sign a requestorder with these params.")
@SKIP_PREFLIGHT
async def fill(run: Run, skip_preflight_check: bool, params: str | None, **hashes: str | None) -> Outcome:
    """Match orders into a deal; those not named by their hash come from orders.json."""
    from poolwright.cli.iexec.filling import FillWish, fill_orders

    async with run.session() as session:

        async def found(kind: str) -> Order | None:
            hash_ = hashes[kind.removesuffix("order")]
            if hash_ is None:
                has_file = (run.folder / files.ORDERS_FILE).exists()
                saved = files.read_orders(run.folder) if has_file else {}
                if kind not in saved.get(str(session.chain.id), {}):
                    return None
                return order_of(saved, session.chain.id, kind)
            hash32(hash_)
            async with market_of(session) as market:
                return read_signed(kind, (await market.order(kind, hash_)).get("order") or {})

        orders = {kind: await found(kind) for kind in files.ORDER_KINDS}
        for kind in ("apporder", "workerpoolorder", *(() if params is not None else ("requestorder",))):
            if orders[kind] is None:
                raise missing_order(kind, session.chain.id)
        wish = FillWish(params=params, skip_preflight=skip_preflight_check)
        made = await fill_orders(run, session, orders, wish)
    tasks = "task" if made.volume == 1 else "tasks"
    return Outcome(
        text=f"{made.volume} {tasks} successfully purchased with dealid {made.deal_id}",
        fields=made.fields(),
    )


# --- shared -------------------------------------------------------------------------------------------------


def chosen(parts: Mapping[str, bool | str | None]) -> tuple[str, ...]:
    """The kinds that the options name."""
    return tuple(f"{part}order" for part in PARTS if parts[part] not in (None, False))


def some_of(parts: Mapping[str, bool | str | None]) -> tuple[str, ...]:
    """The kinds that the options name. Raises IexecError when it is none."""
    kinds = chosen(parts)
    if not kinds:
        raise IexecError(
            "No option specified, you should choose one (--app | --dataset | --workerpool | --request)"
        )
    return kinds


async def each_part(
    kinds: tuple[str, ...], work: Callable[[str], Awaitable[Any]], done_text: str, failed_text: str
) -> Outcome:
    """Do the same with each kind; one that fails does not keep the others from it."""
    done: dict[str, Any] = {}
    told: list[str] = []
    people: list[str] = []
    for kind in kinds:
        try:
            done[kind] = await work(kind)
        except PoolwrightError as problem:
            told.append(f"{kind}: {message_of(problem)}")
            people.append(f"{kind}: {problem}")
    if not told:
        shown = next(iter(done.values())) if len(done) == 1 else done
        return Outcome(text=f"{done_text}: {', '.join(done)}", fields=done, shown=shown)
    lines = [f"{failed_text}:", *(f"  - {line}" for line in people)]
    if done:
        lines.append(f"{done_text}: {', '.join(done)}")
    return Outcome(text="\n".join(lines), fields={**done, "fail": told}, shown=done or None, ok=False)


def hash32(text: str) -> Hash32:
    """Read 32 bytes in hex. Raises ValidationError in the official client's words."""
    try:
        return Hash32.parse(text)
    except InputError as problem:
        raise ValidationError(f"{text} is not a bytes32 hexstring", expected=problem.expected) from problem


def market_of(session: Session) -> MarketClient:
    """The marketplace of the session's chain. Raises ConfigurationError when none is configured."""
    from poolwright.cli.iexec.market_client import MarketClient

    return MarketClient(session.chain.require("iexecGateway"), str(session.chain.id))


def order_of(saved: Mapping[str, Mapping[str, Any]], chain_id: str | None, kind: str) -> Order:
    """A signed order of orders.json. Raises IexecError."""
    document = saved.get(str(chain_id), {}).get(kind)
    if document is None:
        raise missing_order(kind, chain_id)
    return read_signed(kind, document)


def missing_order(kind: str, chain_id: str | None) -> IexecError:
    """The error when orders.json lacks a kind."""
    return IexecError(
        f'Missing signed {kind} for chain {chain_id} in "{files.ORDERS_FILE}"',
        next_step=f'sign one with "iexec order sign --{kind.removesuffix("order")}"',
    )


def orders_beside(run: Run, session: Session) -> dict[str, Order]:
    """The readable orders of orders.json for the session's chain; none when there is no file."""
    if not (run.folder / files.ORDERS_FILE).exists():
        return {}
    found: dict[str, Order] = {}
    for kind, document in files.read_orders(run.folder).get(str(session.chain.id), {}).items():
        try:
            found[kind] = KIND_TO_CLASS[kind].from_json(document)
        except InputError:
            continue  # it is told when somebody uses it
    return found


async def order_by(run: Run, session: Session, kind: str, hash_: str | None) -> Order:
    """The order of orders.json; or the one with this hash, there or on the market. Raises IexecError."""
    from poolwright.cli.iexec import order_chain

    if hash_ is None:
        return order_of(files.read_orders(run.folder), session.chain.id, kind)
    wanted = hash32(hash_)
    beside = orders_beside(run, session).get(kind)
    if beside is not None and await order_chain.hash_of(session, beside) == wanted:
        return beside
    async with market_of(session) as market:
        found = read_signed(kind, (await market.order(kind, hash_)).get("order") or {})
    if await order_chain.hash_of(session, found) != wanted:
        raise IexecError(
            f"The market's {kind} {hash_} has another hash on this hub",
            next_step="check hub and iexecGateway in chain.json",
        )
    return found
