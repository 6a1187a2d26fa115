"""`publish` and `unpublish` of apps, datasets and workerpools: an order in one go, without orders.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from poolwright.cli.iexec.amounts import parse_rlc
from poolwright.cli.iexec.command import Noun, Outcome, Run, Shared
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.order_forms import free_order, read_tag
from poolwright.cli.iexec.render import tree
from poolwright.cli.iexec.values import address_of, number_of
from poolwright.cli.iexec.words import let_amounts_be_two_words

if TYPE_CHECKING:
    from poolwright.poco.orders import Order
    from poolwright.poco.types import Address

RESTRICTIONS: Final = {
    "app": ("dataset", "workerpool", "requester"),
    "dataset": ("app", "workerpool", "requester"),
    "workerpool": ("app", "dataset", "requester"),
}
DEFAULT_VOLUME: Final = {"app": "1000000", "dataset": "1000000", "workerpool": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferWords:
    """The words of one `publish`."""

    price: str | None
    volume: str
    tag: str | None
    category: str | None
    trust: str | None
    restrictions: dict[str, str]


def add_verbs(noun: Noun, part: str) -> None:
    """Add `publish` and `unpublish` to the noun of an app, dataset or workerpool."""

    async def publish(run: Run, address: str | None, **words: Any) -> Outcome:
        restrictions = {name: words[f"{name}_restrict"] for name in RESTRICTIONS[part]}
        offer = OfferWords(
            price=words["price"],
            volume=words["volume"],
            tag=words["tag"],
            category=words.get("category"),
            trust=words.get("trust"),
            restrictions={name: text for name, text in restrictions.items() if text is not None},
        )
        return await _publish(run, part, address, offer, skip=words["skip_preflight_check"])

    async def unpublish(run: Run, address: str | None, **words: Any) -> Outcome:
        return await _unpublish(run, part, address, all_of_them=words["all"])

    publish.__doc__ = f"Sign and publish {part}orders; without an address for the {part} deployed last."
    unpublish.__doc__ = f"Take the last published {part}order off the marketplace, or all of them."
    wallet = (Shared.WALLET, Shared.CHAIN, Shared.FORCE)
    argument = click.argument("address", metavar=f"[{part}Address]", required=False)
    publish_example = f"iexec {part} publish --price 0.5 RLC --volume 10"
    noun.verb("publish", *wallet, example=publish_example)(_options(part)(argument(publish)))
    let_amounts_be_two_words(noun.commands["publish"], "--price")
    every = click.option("--all", is_flag=True, help="All open orders, not only the last one.")
    noun.verb("unpublish", *wallet, example=f"iexec {part} unpublish --all")(every(argument(unpublish)))


def _options(part: str) -> Any:
    options = [
        click.option("--price", metavar="<amount unit>", help="Price per task; without a unit nRLC [0]."),
        click.option("--volume", default=DEFAULT_VOLUME[part], show_default=True, help="Tasks on offer."),
        click.option("--tag", metavar="<tag>", help="Tags, such as tee,tdx."),
    ]
    if part == "workerpool":
        options += [
            click.option("--category", metavar="<id>", help="Category of the tasks [0]."),
            click.option("--trust", metavar="<integer>", help="Trust on offer [0]."),
        ]
    for name in RESTRICTIONS[part]:
        options.append(click.option(f"--{name}-restrict", metavar="<address>", help=f"Only for this {name}."))
    options.append(
        click.option("--skip-preflight-check", is_flag=True, help="Skip preflight checks; tasks may fail.")
    )

    def add(work: Any) -> Any:
        for option in reversed(options):
            work = option(work)
        return work

    return add


def order_for(part: str, resource: Address, words: OfferWords, **more: Any) -> Order:
    """The unsigned order that the words describe. Raises IexecError. Pure."""
    values: dict[str, Any] = {
        part: resource,
        f"{part}price": parse_rlc(words.price, None, "nRLC") if words.price is not None else 0,
        "volume": number_of(words.volume, "volume", least=1),
        **{f"{name}restrict": address_of(text) for name, text in words.restrictions.items()},
        **more,
    }
    if words.tag is not None:
        values["tag"] = read_tag(words.tag)
    if part == "workerpool":
        values["category"] = number_of(words.category or "0", "category")
        values["trust"] = number_of(words.trust or "0", "trust")
    return free_order(f"{part}order", **values)


async def _publish(run: Run, part: str, address: str | None, words: OfferWords, *, skip: bool) -> Outcome:
    from poolwright.cli.iexec import order_chain
    from poolwright.cli.iexec.nouns.order import market_of
    from poolwright.cli.iexec.resources import deployed_or

    async with run.session() as session:
        resource = await deployed_or(run, part, address, session.chain.id)
        draft = order_for(part, resource, words, salt=order_chain.fresh_salt())
        checked = await order_chain.preflight(session, draft, {}, skip=skip)
        order_chain.tell_warnings(run, checked)
        order_chain.tell_prices(run, draft)
        unsigned = {name: value for name, value in draft.to_json().items() if name not in ("salt", "sign")}
        run.confirm(f"Do you want to publish the following {draft.KIND}?\n{tree(unsigned)}\n")
        signed = await order_chain.signed(session, draft, checked.signer)
        async with market_of(session) as market:
            with run.out.working(f"Publishing {draft.KIND}"):
                hash_ = await market.publish(draft.KIND, signed.to_json(), await session.wallet())
    return Outcome(
        text=f"Successfully published {draft.KIND} with orderHash {hash_}", fields={"orderHash": hash_}
    )


async def _unpublish(run: Run, part: str, address: str | None, *, all_of_them: bool) -> Outcome:
    from poolwright.cli.iexec.nouns.order import market_of
    from poolwright.cli.iexec.resources import deployed_or

    async with run.session() as session:
        resource = await deployed_or(run, part, address, session.chain.id)
        which = f"all {part}orders" if all_of_them else f"the last {part}order"
        run.confirm(f"Do you want to unpublish {which} for {part} {resource}?")
        async with market_of(session) as market:
            hashes: Sequence[str] = await market.unpublish_of(
                f"{part}order", resource, await session.wallet(), all_of_them=all_of_them
            )
    if not hashes:
        raise IexecError(f"no open {part}order was unpublished")
    return Outcome(
        text=f"Successfully unpublished {len(hashes)} {part}order{'' if len(hashes) == 1 else 's'}",
        fields={"unpublished": list(hashes) if all_of_them else hashes[0]},
        shown=list(hashes),
    )
