"""`iexec info`: the chain's contracts."""

from __future__ import annotations

from typing import Final

from poolwright.cli.iexec.command import Outcome, Run, Shared, as_command

POCO_VERSION: Final = "6.1.0"
"""Of the contracts that our ABI follows."""


async def info(run: Run) -> Outcome:
    """Show the contracts of the chain: hub, token and registries."""
    async with run.session() as session:
        contracts = await session.contracts()
        chain = session.chain
    fields = {
        "pocoVersion": POCO_VERSION,
        "host": "default" if chain.is_default_host else chain.host,
        "hubAddress": str(session.hub),
        "rlcAddress": str(contracts.token),
        "appRegistryAddress": str(contracts.app_registry),
        "datasetRegistryAddress": str(contracts.dataset_registry),
        "workerpoolRegistryAddress": str(contracts.workerpool_registry),
    }
    return Outcome(text="iExec contracts", fields=fields, shown=fields)


COMMAND = as_command("info", info, Shared.CHAIN, example="iexec info --chain arbitrum-mainnet")
