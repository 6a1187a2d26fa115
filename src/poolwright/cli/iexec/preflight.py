"""What must be right before an order is signed, published or filled. Pure: facts come in, findings go out.

    order by order     a tag of the list, TEE with trust 1, a category that exists, a stake that covers it
    with its partners  restrictions and terms against the other orders that are at hand
    at the match       every rule of `matchOrders` (poolwright.poco.matching), then the money of both sides

A finding names the field, what it got and what it expects. A blocking one stops the command unless the user
skips preflight checks; the others are told to people as warnings. Where the official client has a sentence
for the same thing, the finding starts with it, as scripts compare those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from poolwright.cli.iexec.amounts import format_rlc
from poolwright.cli.iexec.errors import IexecError
from poolwright.poco import matching, rewards
from poolwright.poco.errors import InputError
from poolwright.poco.matching import DealTerms, EntryKind, HubFacts, MatchRejected, Orders, Policy, Release
from poolwright.poco.orders import (
    NULL_DATASETORDER,
    AppOrder,
    DatasetOrder,
    Domain,
    Order,
    RequestOrder,
    WorkerpoolOrder,
)
from poolwright.poco.revert import Revert
from poolwright.poco.tags import GPU, GRAMINE, SCONE, TDX, TEE, TEE_FRAMEWORKS, Tag
from poolwright.poco.types import Address, NRlc, OrderHash

STANDARD: Final = Tag(0)
TEE_SCONE: Final = TEE | SCONE
TEE_GRAMINE: Final = TEE | GRAMINE
TEE_TDX: Final = TEE | TDX
VALID_TAGS: Final = "0x0 (standard), 0x3 (TEE with Scone), 0x9 (TEE with TDX); each may add 0x100 (GPU)"
RESERVED: Final = "0x5 (TEE with Gramine) is a reserved value, do not use it"
SKIP: Final = "--skip-preflight-check"

_KNOWN: Final = TEE | TEE_FRAMEWORKS | GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about an order that would go wrong."""

    field: str
    """Such as `workerpoolorder.tag`."""
    got: str
    expected: str
    sentence: str = ""
    """The official client's words, if it has any."""
    next_step: str = ""
    is_blocking: bool = True

    def __str__(self) -> str:
        text = f"{self.field}: got {self.got}, expected {self.expected}"
        if self.sentence:
            text = f"{self.sentence} ({text})"
        return f"{text}; {self.next_step}" if self.next_step else text


class PreflightFailed(IexecError):
    """An order would go wrong; correct the named fields, or skip the check."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(". ".join(map(str, self.findings)), next_step=f"correct it, or skip with {SKIP}")


def require(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Give back the findings that do not block. Raises PreflightFailed when one does."""
    blocking = [finding for finding in findings if finding.is_blocking]
    if blocking:
        raise PreflightFailed(blocking)
    return tuple(findings)


# --- one order ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFacts:
    """What the chain says about one order's surroundings."""

    category_count: int
    stake: NRlc
    """Free RLC inside the hub of who signs the order."""
    consumed: int = 0
    """Tasks of the order that deals took."""
    mrenclave: bytes | None = None
    """Of an app order's app; None when not looked at."""


def check_order(order: Order, facts: OrderFacts) -> tuple[Finding, ...]:
    """All that is wrong with one order on its own."""
    findings = [*check_tag(order.KIND, order.tag)]
    if isinstance(order, WorkerpoolOrder | RequestOrder):
        findings += check_trust(order)
        findings += check_category(order.KIND, order.category, facts.category_count)
    if isinstance(order, AppOrder) and facts.mrenclave is not None:
        findings += check_enclave(order, facts.mrenclave)
    if isinstance(order, WorkerpoolOrder):
        findings += check_pool_stake(order, facts)
    if isinstance(order, RequestOrder):
        findings += check_budget(order, facts)
    return tuple(findings)


def check_tag(kind: str, tag: Tag) -> list[Finding]:
    """A tag of the guide's list; datasets and requests may leave the TEE framework open.

    Rule: reference/market-sdk.md 3.3 and the table of the guide "Manage a workerpool".
    """
    flags = TEE | TEE_FRAMEWORKS
    base = tag & flags
    valid = {STANDARD, TEE_SCONE, TEE_TDX}
    if kind in ("datasetorder", "requestorder"):
        valid.add(TEE)
    unknown = _KNOWN.lacks(tag)
    if base in valid and not unknown:
        return []
    sentence, hint = "", ""
    if unknown:
        sentence = f"Unknown bit {unknown.bit_length() - 1} in tag"
    elif base & GRAMINE:
        sentence, hint = "Unsupported legacy TEE framework tag ('gramine')", RESERVED
    elif base == TEE:
        sentence = "'tee' tag must be used with a tee framework ('scone' or 'tdx')"
    elif not base & TEE:
        name = "scone" if base & SCONE else "tdx"
        sentence = f"'{name}' tag must be used with 'tee' tag"
    return [
        Finding(
            field=f"{kind}.tag",
            got=f"0x{int(tag):x} ({', '.join(tag.names)})",
            expected=f"{VALID_TAGS}{', 0x1 (TEE, any framework)' if TEE in valid else ''}",
            sentence=sentence,
            next_step=hint,
        )
    ]


def check_trust(order: WorkerpoolOrder | RequestOrder) -> list[Finding]:
    """TEE tasks are not replicated: their trust is 1. In a request 0 counts as 1 (matchOrders)."""
    if not order.tag & TEE or order.trust == 1 or (isinstance(order, RequestOrder) and order.trust == 0):
        return []
    return [
        Finding(
            field=f"{order.KIND}.trust",
            got=str(order.trust),
            expected="1, because the tag has tee and TEE tasks are not replicated on several workers",
            next_step=f"set trust to 1, or the tag to {Tag(order.tag & ~int(TEE | TEE_FRAMEWORKS))!s}",
        )
    ]


def check_category(kind: str, category: int, count: int) -> list[Finding]:
    """The category exists on the hub."""
    if category < count:
        return []
    return [
        Finding(
            field=f"{kind}.category",
            got=str(category),
            expected=f"0 to {count - 1}, the hub's categories",
            next_step="see `iexec category show <index>`",
        )
    ]


def check_enclave(order: AppOrder, mrenclave: bytes) -> list[Finding]:
    """A Scone app has an enclave measurement, no other app has one."""
    if bool(mrenclave) == bool(order.tag & SCONE):
        return []
    sentence = f"App {order.app} has an MREnclave, which is no longer supported"
    return [
        Finding(
            field="apporder.tag",
            got=f"0x{int(order.tag):x}, while the app has {'an' if mrenclave else 'no'} MREnclave",
            expected="0x3 (TEE with Scone) for an app with an MREnclave, another tag for one without",
            sentence=f"App requirements check failed: {sentence}" if mrenclave else "",
        )
    ]


def check_pool_stake(order: WorkerpoolOrder, facts: OrderFacts) -> list[Finding]:
    """The owner's free stake covers floor(30 % of the price) for every task left (matchOrders locks it)."""
    left = max(order.volume - facts.consumed, 0)
    per_task = rewards.pool_stake(order.workerpoolprice)
    needed = per_task * left
    if needed <= facts.stake:
        return []
    missing = needed - facts.stake
    return [
        Finding(
            field="workerpoolorder.volume",
            got=f"{left} tasks, which lock {both(needed)} of the owner's stake of {both(facts.stake)}",
            expected=f"at most {facts.stake // per_task} tasks at this price",
            next_step=f"run `iexec account deposit {format_rlc(missing)} RLC`, or offer less",
        )
    ]


def check_budget(order: RequestOrder, facts: OrderFacts) -> list[Finding]:
    """The requester's free stake covers its price caps for every task left; a warning, as caps are caps."""
    left = max(order.volume - facts.consumed, 0)
    per_task = order.appmaxprice + order.datasetmaxprice + order.workerpoolmaxprice
    needed = per_task * left
    if needed <= facts.stake:
        return []
    return [
        Finding(
            field="requestorder.volume",
            got=f"{left} tasks, which cost up to {both(needed)} of the stake of {both(facts.stake)}",
            expected=f"at most {facts.stake // per_task} tasks at these price caps",
            next_step=f"run `iexec account deposit {format_rlc(needed - facts.stake)} RLC` before the match",
            is_blocking=False,
        )
    ]


# --- with its partners --------------------------------------------------------------------------------------


def check_partners(order: Order, others: Mapping[str, Order]) -> tuple[Finding, ...]:
    """Warn when this order excludes one that lies beside it in orders.json (kind to order), or is excluded.

    Groups (ERC-734) are unknown here and taken as excluding; that is why this never blocks.
    """
    beside = {**others, order.KIND: order}
    resources = {
        "app": _attribute(beside.get("apporder"), "app"),
        "dataset": _attribute(beside.get("datasetorder"), "dataset"),
        "workerpool": _attribute(beside.get("workerpoolorder"), "workerpool"),
        "requester": _attribute(beside.get("requestorder"), "requester"),
    }
    findings = []
    for kind, one in beside.items():
        for name, partner in resources.items():
            restriction = _attribute(one, f"{name}restrict")
            if kind == "requestorder" and name != "requester":
                restriction = _attribute(one, name)
            if not restriction or not partner or restriction == partner:
                continue
            if kind != order.KIND and f"{name}order" != order.KIND and name != "requester":
                continue  # between two others
            findings.append(
                Finding(
                    field=f"{kind}.{name if kind == 'requestorder' else f'{name}restrict'}",
                    got=str(restriction),
                    expected=f"{partner}, the {name} in orders.json, if the two are to match",
                    is_blocking=False,
                )
            )
    return tuple(findings)


def _attribute(order: Order | None, name: str) -> Address | None:
    found = getattr(order, name, None)
    return found if isinstance(found, Address) and found else None


# --- the match ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFacts(HubFacts):
    """The chain's answers about one match, gathered before."""

    categories: int
    owners: Mapping[Address, Address]
    """Of registered and other contracts that answer `owner()`."""
    registered: frozenset[tuple[EntryKind, Address]]
    pool_policy: Policy
    consumed_volumes: Mapping[OrderHash, int]
    signed: frozenset[tuple[Address, OrderHash]]
    members: frozenset[tuple[Address, Address]] = frozenset()
    """(ERC-734 group, member) pairs among the restrictions of these orders."""

    def category_count(self) -> int:
        """See HubFacts."""
        return self.categories

    def owner_of(self, entry: Address) -> Address:
        """See HubFacts."""
        if entry not in self.owners:
            raise Revert(explanation=f"nothing at {entry} answers owner()")
        return self.owners[entry]

    def is_registered(self, kind: EntryKind, entry: Address) -> bool:
        """See HubFacts."""
        return (kind, entry) in self.registered

    def policy(self, workerpool: Address) -> Policy:
        """See HubFacts."""
        return self.pool_policy

    def consumed(self, order_hash: OrderHash) -> int:
        """See HubFacts."""
        return self.consumed_volumes.get(order_hash, 0)

    def is_signed(self, signer: Address, order_hash: OrderHash, sign: bytes) -> bool:
        """See HubFacts."""
        return (signer, order_hash) in self.signed

    def is_member(self, group: Address, account: Address) -> bool:
        """See HubFacts."""
        return (group, account) in self.members


def check_match(orders: Orders, facts: KnownFacts, domain: Domain) -> DealTerms:
    """The deal that these orders make. Raises IexecError in the official client's words.

    The newer contracts' rule about dataset tags is applied, as the client does; an older hub that disagrees
    refuses the transaction when its gas is estimated.
    """
    for kind, entry in (
        (EntryKind.APP, orders.app.app),
        (EntryKind.DATASET, orders.dataset.dataset),
        (EntryKind.WORKERPOOL, orders.workerpool.workerpool),
    ):
        if entry and not facts.is_registered(kind, entry):
            raise IexecError(f"No {kind.value} deployed at address {entry}")
    try:
        return matching.match(orders, facts, domain, release=Release.V6_2)
    except MatchRejected as rejected:
        _raise_in_their_words(rejected, orders)
    except Revert as revert:
        raise IexecError(revert.what, next_step=revert.explanation) from revert


def check_tags_together(orders: Orders) -> None:
    """The union of the orders' tags is one that a pool may sell (reference 3.5). Raises IexecError."""
    tag = orders.app.tag | TEE_FRAMEWORKS.lacks(orders.dataset.tag) | orders.request.tag
    findings = check_tag("deal", tag)
    if findings:
        raise IexecError(f"Matching order would produce an invalid deal tag. {findings[0]}")


def check_money(
    terms: DealTerms, *, requester_stake: NRlc, pool_stake: NRlc, is_one_purse: bool = False
) -> tuple[Finding, ...]:
    """Both sides can lock what the deal takes; `is_one_purse` when the requester owns the pool."""
    findings = []
    per_task = terms.app.price + terms.dataset.price + terms.workerpool.price
    total = terms.payer_lock()
    lock = terms.scheduler_lock()
    if lock > pool_stake:
        per_pool_task = rewards.pool_stake(terms.workerpool.price)
        findings.append(
            Finding(
                field="workerpoolorder.workerpoolprice",
                got=f"{both(terms.workerpool.price)} for {terms.volume} tasks, which locks {both(lock)}",
                expected=f"at most {both(pool_stake)} to lock, the stake of the pool's owner",
                sentence=f"workerpool required stake ({per_pool_task}) is greater than workerpool owner's "
                f"account stake ({pool_stake})",
                next_step="the owner deposits, or take another workerpool order",
            )
        )
    available = requester_stake - lock if is_one_purse else requester_stake
    if total > available:
        sentence = f"Total cost for {terms.volume} tasks ({total}) is greater than requester account stake"
        if per_task > available:
            sentence = f"Cost per task ({per_task}) is greater than requester account stake"
        findings.append(
            Finding(
                field="requestorder.volume",
                got=f"{terms.volume} tasks, which cost {both(total)}",
                expected=f"at most {both(max(available, 0))}, the requester's free stake",
                sentence=f"{sentence} ({max(available, 0)}). Orders can't be matched",
                next_step=f"run `iexec account deposit {format_rlc(total - max(available, 0))} RLC`",
            )
        )
    return tuple(findings)


def without_dataset(orders: Orders) -> Orders:
    """The same orders when the request names no dataset."""
    return orders if orders.request.dataset else replace(orders, dataset=NULL_DATASETORDER)


def groups_to_ask(orders: Orders) -> tuple[tuple[Address, Address], ...]:
    """(restriction, account) pairs that only a group contract could allow."""
    app, dataset, pool, request = orders.app, orders.dataset, orders.workerpool, orders.request
    pairs = (
        (request.workerpool, pool.workerpool),
        (app.datasetrestrict, dataset.dataset),
        (app.workerpoolrestrict, pool.workerpool),
        (app.requesterrestrict, request.requester),
        (dataset.apprestrict, app.app),
        (dataset.workerpoolrestrict, pool.workerpool),
        (dataset.requesterrestrict, request.requester),
        (pool.apprestrict, app.app),
        (pool.datasetrestrict, dataset.dataset),
        (pool.requesterrestrict, request.requester),
    )
    return tuple(pair for pair in pairs if pair[0] and pair[0] != pair[1])


def _raise_in_their_words(rejected: MatchRejected, orders: Orders) -> NoReturn:
    sentence = _sentence(rejected.number, orders)
    if not sentence and rejected.number == 0x60:
        sentence = ", ".join(f"{field.partition('.')[0]} is fully consumed" for field in rejected.fields[:1])
    if not sentence:
        fields = ", ".join(rejected.fields)
        raise IexecError(
            f"{rejected.what}: {fields}: expected {rejected.expected}, got {rejected.got}",
            next_step=rejected.next_step or "choose other orders",
        ) from rejected
    raise IexecError(
        sentence, expected=rejected.expected, got=rejected.got, next_step=rejected.next_step
    ) from rejected


def _sentence(number: int, orders: Orders) -> str:
    """The official client's sentence for a check of `matchOrders` (reference: market-sdk.md 3.5)."""
    app, dataset, pool, request = orders.app, orders.dataset, orders.workerpool, orders.request
    missing = pool.tag.lacks(app.tag | TEE_FRAMEWORKS.lacks(dataset.tag) | request.tag)
    return {
        0x00: "category mismatch between requestorder "
        f"({request.category}) and workerpoolorder ({pool.category})",
        0x02: f"workerpoolorder trust is too low (expected {request.trust}, got {pool.trust})",
        0x03: f"appmaxprice too low (expected {app.appprice}, got {request.appmaxprice})",
        0x04: f"datasetmaxprice too low (expected {dataset.datasetprice}, got {request.datasetmaxprice})",
        0x05: "workerpoolmaxprice too low "
        f"(expected {pool.workerpoolprice}, got {request.workerpoolmaxprice})",
        0x06: f"Missing tags [{','.join(missing.names)}] in workerpoolorder",
        0x07: "Missing tag [tee] in apporder",
        0x10: f"app address mismatch between requestorder ({request.app}) and apporder ({app.app})",
        0x11: "dataset address mismatch between requestorder "
        f"({request.dataset}) and datasetorder ({dataset.dataset})",
        0x12: "workerpool address mismatch between requestorder "
        f"({request.workerpool}) and workerpoolorder ({pool.workerpool})",
        0x21: "apporder invalid sign",
        0x31: "datasetorder invalid sign",
        0x41: "workerpoolorder invalid sign",
        0x50: "requestorder invalid sign",
    }.get(number, "")


# --- prices -------------------------------------------------------------------------------------------------


def both(amount: int) -> str:
    """An amount in both units: `5000000 nRLC (0.005 RLC)`."""
    return f"{amount} nRLC ({format_rlc(amount)} RLC)"


def price_lines(order: Order) -> tuple[str, ...]:
    """What the order says about money, for people who are about to sign it."""
    match order:
        case RequestOrder():
            caps = (("app", order.appmaxprice), ("dataset", order.datasetmaxprice))
            lines = [
                f"{name} at most {both(cap)} per task"
                for name, cap in (*caps, ("workerpool", order.workerpoolmaxprice))
            ]
            total = sum(cap for _, cap in (*caps, ("", order.workerpoolmaxprice))) * order.volume
            return (*lines, f"at most {both(total)} for {order.volume} tasks")
        case AppOrder():
            price = order.appprice
        case DatasetOrder():
            price = order.datasetprice
        case WorkerpoolOrder():
            price = order.workerpoolprice
    lines = [f"price {both(price)} per task, {order.volume} tasks"]
    if isinstance(order, WorkerpoolOrder) and order.workerpoolprice:
        lock = rewards.pool_stake(order.workerpoolprice)
        lines.append(f"locks {both(lock)} of your stake per task, {both(lock * order.volume)} in all")
    return tuple(lines)


def explain(problem: InputError) -> str:
    """A problem without the words around it, for the list of what failed."""
    return problem.what if isinstance(problem, IexecError) else str(problem)
