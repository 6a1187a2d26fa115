"""`iexec init`: start a project folder."""

from __future__ import annotations

import click

from poolwright.cli.iexec import templates
from poolwright.cli.iexec.chains import TEMPLATE
from poolwright.cli.iexec.command import Outcome, Run, Shared, as_command
from poolwright.cli.iexec.files import CHAIN_FILE, IEXEC_FILE, write_json
from poolwright.cli.iexec.new_wallets import ask_before_clear_wallet, make_wallet


@click.option("--skip-wallet", is_flag=True, help="Make no wallet.")
def init(run: Run, skip_wallet: bool) -> Outcome:
    """Start a project in this folder: iexec.json, chain.json and a new wallet.

    With --raw, files that are there are replaced without asking.
    """
    files = {IEXEC_FILE: templates.PROJECT, CHAIN_FILE: TEMPLATE}
    if not run.options.raw:
        for name in files:
            if (run.folder / name).exists():
                run.confirm(f'"{name}" already exists, replace it with a new one?')
        if not skip_wallet:
            ask_before_clear_wallet(run)
    for name, content in files.items():
        write_json(run.folder, name, content)
    fields = {"configFile": IEXEC_FILE, "chainConfigFile": CHAIN_FILE}
    if skip_wallet:
        return Outcome(text=f"iExec project is ready: {IEXEC_FILE}, {CHAIN_FILE}", fields=fields)
    made = make_wallet(run, None)
    return Outcome(
        text=f"iExec project is ready: {IEXEC_FILE}, {CHAIN_FILE}\nWallet {made.address} in {made.file_name}",
        fields={"walletAddress": str(made.address), "walletFile": made.file_name, **fields},
    )


COMMAND = as_command("init", init, Shared.NEW_WALLET, Shared.FORCE, example="iexec init --skip-wallet")
