"""What a verb of the `iexec` command is: shared options, one function, one outcome, one exit code.

    @account.verb("deposit", Shared.WALLET, Shared.CHAIN, example="iexec account deposit 10 RLC")
    @click.argument("amount")
    async def deposit(run: Run, amount: str) -> Outcome: ...

The function gets a `Run` and its own words; the shared options stand in `run.options`.  It may be a plain
function when it only touches files.  What it raises is told in the words of `output`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields
from enum import Flag, auto
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from poolwright.cli.iexec import chains, prompts, wallets
from poolwright.cli.iexec.output import Outcome, Output
from poolwright.cli.iexec.words import let_amounts_be_two_words
from poolwright.poco.errors import PoolwrightError
from poolwright.poco.types import Address

if TYPE_CHECKING:
    from poolwright.cli.iexec.session import Session

__all__ = ["Noun", "Options", "Outcome", "Run", "Shared", "TheirGroup"]

PROGRAM: Final = "iexec"
GAS_PRICE: Final = "--gas-price"
FAILED: Final = 1
"""Exit code of every failure, wrong usage included, as scripts know it."""


class Shared(Flag):
    """The groups of shared options (reference: market-sdk.md 1.1); --raw and --quiet are everywhere."""

    WALLET = auto()
    """Load a wallet."""
    NEW_WALLET = auto()
    """Make a wallet."""
    CHAIN = auto()
    CONFIRMS = auto()
    """Send transactions."""
    FORCE = auto()
    TO = auto()
    USER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The shared options of one call; those that the verb does not take have their defaults."""

    raw: bool = False
    quiet: bool = False
    password: str | None = None
    wallet_file: str | None = None
    wallet_address: str | None = None
    keystoredir: str | None = None
    unencrypted: bool = False
    chain: str | None = None
    confirms: int = 1
    gas_price: str | None = None
    force: bool = False
    to: str | None = None
    user: str | None = None


_KEYSTORES = click.option(
    "--keystoredir", metavar="<global|local|path>", help="Folder of the keystores [global]."
)
_PASSWORD = click.option(
    "--password", metavar="<password>", help="Password of the keystore; asked when not given."
)
_SHARED: Final[Mapping[Shared, tuple[Callable[[Any], Any], ...]]] = {
    Shared.WALLET: (
        _PASSWORD,
        click.option("--wallet-file", metavar="<name>", help="Keystore file to use."),
        click.option(
            "--wallet-address", metavar="<address>", help="Use the newest keystore of this address."
        ),
        _KEYSTORES,
    ),
    Shared.NEW_WALLET: (
        _PASSWORD,
        click.option("--unencrypted", is_flag=True, help="Write the key as clear text into ./wallet.json."),
        _KEYSTORES,
    ),
    Shared.CHAIN: (click.option("--chain", metavar="<name|id>", help="Chain of chain.json to use."),),
    Shared.CONFIRMS: (
        click.option(
            "--confirms",
            type=click.IntRange(min=1),
            default=1,
            metavar="<n>",
            help="Blocks to wait for after each transaction [1].",
        ),
        click.option(
            GAS_PRICE, metavar="<amount unit>", help="Pay this price, such as 1 gwei; without a unit wei."
        ),
    ),
    Shared.FORCE: (click.option("--force", is_flag=True, help="Do not ask for confirmation."),),
    Shared.TO: (click.option("--to", metavar="<address>", help="Receiver."),),
    Shared.USER: (click.option("--user", metavar="<address>", help="Of this user instead of the wallet."),),
}
_EVERYWHERE: Final = (
    click.option("--raw", is_flag=True, help="Answer with one line of JSON."),
    click.option("--quiet", is_flag=True, help="Look for no update; this client never does."),
)
_OPTION_NAMES: Final = frozenset(field.name for field in fields(Options))

Work = Callable[..., Outcome | Awaitable[Outcome]]
WorkT = TypeVar("WorkT", bound=Work)


class Run:
    """One call of one verb: its shared options, its folder, and its voice."""

    def __init__(self, options: Options, out: Output, folder: Path) -> None:
        self.options: Final = options
        self.out: Final = out
        self.folder: Final = folder

    # --- chain ----------------------------------------------------------------------------------------------

    def chain(self) -> chains.ChainSettings:
        """The chain of this call. Raises IexecError."""
        return chains.load_chain(self.folder, self.options.chain)

    def session(self) -> Session:
        """Chain reads and transactions for this call; an async context manager. Raises IexecError."""
        from poolwright.cli.iexec.session import Session

        return Session(self, self.chain())

    # --- wallet ---------------------------------------------------------------------------------------------

    @property
    def keystores(self) -> Path:
        """The folder of the keystores."""
        return wallets.keystore_folder(self.options.keystoredir, self.folder)

    def chosen_wallet(self) -> wallets.WalletFile | None:
        """The wallet's file by the rules of `wallets`, not opened; None when there is none."""
        return wallets.choose(
            self.folder, self.keystores, file=self.options.wallet_file, address=self.options.wallet_address
        )

    def wallet_file(self) -> wallets.WalletFile:
        """Like `chosen_wallet`, but raises IexecError when there is none."""
        chosen = self.chosen_wallet()
        if chosen is None:
            raise wallets.none_found(self.keystores)
        return chosen

    def wallet_address(self) -> Address:
        """The wallet's address, not opened; zero when there is none, as the official client has it."""
        chosen = self.chosen_wallet()
        return Address.zero() if chosen is None else chosen.address

    def key(self) -> bytes:
        """The wallet's private key; asks for the password when it needs one. Raises InputError."""
        chosen = self.wallet_file()
        password = ""
        if not chosen.is_clear:
            password = self.options.password or prompts.password(str(chosen.address))
        with self.out.working("Opening the wallet"):
            return chosen.open(password)

    # --- questions ------------------------------------------------------------------------------------------

    def confirm(self, question: str) -> None:
        """Ask for a yes unless `--force`; raises UserRefused."""
        prompts.confirm(question, force=self.options.force)


class TheirGroup(click.Group):
    """A click group that tells wrong usage as the official client does: `error: …`, the help, exit code 1."""

    def main(self, *words: Any, **settings: Any) -> NoReturn:
        """Run the command that the words name, and exit."""
        settings["standalone_mode"] = False
        settings.setdefault("prog_name", PROGRAM)
        try:
            code = super().main(*words, **settings)
        except click.exceptions.NoArgsIsHelpError as problem:
            click.echo(problem.format_message(), err=True)
            raise SystemExit(FAILED) from None
        except click.UsageError as problem:
            text = f"error: {problem.format_message()}"
            click.echo(f"{text}\n\n{problem.ctx.get_help()}" if problem.ctx else text, err=True)
            raise SystemExit(FAILED) from None
        except click.ClickException as problem:
            click.echo(f"error: {problem.format_message()}", err=True)
            raise SystemExit(FAILED) from None
        except click.Abort:
            raise SystemExit(130) from None
        raise SystemExit(code if isinstance(code, int) else 0)


class Noun(TheirGroup):
    """The group of one noun's verbs."""

    def __init__(self, name: str, help_text: str) -> None:
        super().__init__(name, help=help_text)

    def verb(self, name: str, *shared: Shared, example: str) -> Callable[[WorkT], WorkT]:
        """Make a function a verb of this noun; its docstring is the help text.

        `shared` are the groups of options it takes besides --raw and --quiet.
        """

        def add(work: WorkT) -> WorkT:
            self.add_command(as_command(name, work, *shared, example=example))
            return work

        return add


def as_command(name: str, work: Work, *shared: Shared, example: str) -> click.Command:
    """The click command of a verb."""

    @wraps(work)
    @click.pass_context
    def call(context: click.Context, /, **words: Any) -> None:
        common = {key: words.pop(key) for key in list(words) if key in _OPTION_NAMES}
        options = Options(**common)
        out = Output(raw=options.raw)
        try:
            outcome = work(Run(options, out, Path.cwd()), **words)
            if inspect.iscoroutine(outcome):
                import asyncio

                outcome = asyncio.run(outcome)
            assert isinstance(outcome, Outcome)
            code = out.tell(outcome)
        except PoolwrightError as problem:
            code = out.fail(spoken(context), problem)
        context.exit(code)

    decorated: Any = call
    taken: list[Callable[[Any], Any]] = []
    for group in shared:
        taken += [option for option in _SHARED[group] if option not in taken]
    for option in reversed((*taken, *_EVERYWHERE)):
        decorated = option(decorated)
    help_text = inspect.cleandoc(work.__doc__ or "")
    summary, _, _ = help_text.partition("\n\n")
    made = click.command(
        name, help=f"{help_text}\n\nExample: {example}", short_help=" ".join(summary.split())
    )(decorated)
    if Shared.CONFIRMS in shared:
        let_amounts_be_two_words(made, GAS_PRICE)
    return made


def spoken(context: click.Context) -> str:
    """The command as people say it: "iexec app deploy"."""
    words: list[str] = []
    at: click.Context | None = context
    while at is not None:
        words.insert(0, at.info_name or "")
        at = at.parent
    return " ".join([PROGRAM, *words[1:]])
