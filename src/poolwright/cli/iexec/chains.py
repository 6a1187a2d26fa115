"""chain.json: which chains the folder knows and which one a command is about (reference: market-sdk.md 2).

Both schema generations are read, whatever client wrote the file: the keys of 9.x, and those of 8.x that 9.x
refuses.  A key of neither is refused and the fix is named.  What a chain leaves out comes from the defaults
of its id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from poolwright.cli.iexec.errors import ConfigurationError, IexecError, ValidationError
from poolwright.cli.iexec.files import CHAIN_FILE, read_json

KEYS_9: Final = ("id", "host", "hub", "sms", "ipfsGateway", "iexecGateway", "compass", "pocoSubgraph")
KEYS_8: Final = (
    *("ensRegistry", "ensPublicResolver", "voucherHub", "resultProxy", "voucherSubgraph", "native"),
    *("useGas", "defaultTeeFramework", "bridge"),
)
"""What only 8.x knows. Its names, vouchers and bridges have no command here; the keys are read over."""
TOP_KEYS: Final = ("default", "chains", "allowExperimentalNetworks", "providers")
TEE_FRAMEWORKS: Final = ("scone", "gramine", "tdx")

_TEXT: Final = frozenset(
    {
        *("id", "host", "hub", "ipfsGateway", "iexecGateway", "compass", "pocoSubgraph"),
        *("ensRegistry", "ensPublicResolver", "voucherHub", "resultProxy", "voucherSubgraph"),
        "defaultTeeFramework",
    }
)
_TRUTH: Final = frozenset({"native", "useGas"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSettings:
    """One chain as a command uses it; None is "not configured"."""

    name: str
    id: str | None = None
    """Decimal; the key of the chain in deployed.json and orders.json, and the market's chain."""
    host: str | None = None
    """JSON-RPC URL."""
    hub: str | None = None
    sms: Mapping[str, str] = field(default_factory=dict)
    """URL of the secret service by TEE framework; under "" for all others."""
    iexec_gateway: str | None = None
    """The marketplace."""
    ipfs_gateway: str | None = None
    compass: str | None = None
    poco_subgraph: str | None = None
    result_proxy: str | None = None
    """8.x only: where results lie that are not on IPFS."""
    use_gas: bool = True
    """8.x only: false is a chain on which gas costs nothing."""
    is_default_host: bool = False
    """The host is the default of the chain, not written in chain.json."""

    def require(self, key: str) -> str:
        """The value of a service key of chain.json. Raises ConfigurationError when there is none."""
        value: str | None = {
            "iexecGateway": self.iexec_gateway,
            "ipfsGateway": self.ipfs_gateway,
            "compass": self.compass,
            "pocoSubgraph": self.poco_subgraph,
            "resultProxy": self.result_proxy,
            "sms": self.sms_of(""),
        }[key]
        if value is None:
            raise ConfigurationError(
                f'Missing {key} in "{CHAIN_FILE}" for chain {self.id}',
                next_step=f'add "{key}" to chain "{self.name}" in {CHAIN_FILE}',
            )
        return value

    def require_host(self) -> str:
        """The RPC URL. Raises ConfigurationError when there is none."""
        if self.host is None:
            raise ConfigurationError(
                f'Missing RPC host, no "host" key in "{CHAIN_FILE}" and no default value for chain {self.id}',
                next_step=f'add "host" to chain "{self.name}" in {CHAIN_FILE}',
            )
        return self.host

    def require_hub(self) -> str:
        """The hub's address. Raises ConfigurationError when there is none."""
        if self.hub is None:
            raise ConfigurationError(
                "missing hubAddress key", next_step=f'add "hub" to chain "{self.name}" in {CHAIN_FILE}'
            )
        return self.hub

    def sms_of(self, framework: str) -> str | None:
        """The secret service of a TEE framework."""
        return self.sms.get(framework) or self.sms.get("")


def _arbitrum(*, name: str, id_: str, hub: str, host: str, market: str, subgraph: str) -> ChainSettings:
    return ChainSettings(
        name=name,
        id=id_,
        hub=hub,
        host=host,
        sms={"": f"https://sms.{name}.iex.ec"},
        iexec_gateway=market,
        ipfs_gateway=f"https://ipfs-gateway.{name}.iex.ec",
        compass=f"https://compass.{name}.iex.ec",
        poco_subgraph=f"https://thegraph.{subgraph}",
    )


DEFAULTS: Final = (
    _arbitrum(
        name="arbitrum-sepolia-testnet",
        id_="421614",
        hub="0xB2157BF2fAb286b2A4170E3491Ac39770111Da3E",
        host="https://sepolia-rollup.arbitrum.io/rpc",
        market="https://api-market.arbitrum-sepolia-testnet.iex.ec",
        subgraph="arbitrum-sepolia-testnet.iex.ec/api/subgraphs/id/2GCj8gzLCihsiEDq8cYvC5nUgK6VfwZ6hm3Wj8A3kcxz",
    ),
    _arbitrum(
        name="arbitrum-mainnet",
        id_="42161",
        hub="0x098bFCb1E50ebcA0BaA92C12eA0c3F045A1aD9f0",
        host="https://arb1.arbitrum.io/rpc",
        market="https://api.market.arbitrum-mainnet.iex.ec",
        subgraph="arbitrum.iex.ec/api/subgraphs/id/B1comLe9SANBLrjdnoNTJSubbeC7cY7EoNu6zD82HeKy",
    ),
    ChainSettings(  # 8.x; a native chain: named here so that the error says so instead of "unknown"
        name="bellecour",
        id="134",
        hub="0x3eca1B216A7DF1C7689aEb259fFB83ADFB894E7f",
        host="https://bellecour.iex.ec",
        sms={"scone": "https://sms.iex.ec", "gramine": "https://sms.gramine.v8-bellecour.iex.ec"},
        iexec_gateway="https://api.market.v8-bellecour.iex.ec",
        result_proxy="https://result.v8-bellecour.iex.ec",
        use_gas=False,
    ),
    ChainSettings(name="mainnet", id="1"),
)
"""The chains that both generations of the official client know (reference: market-sdk.md 2.2, 2.5)."""
TEMPLATE: Final = {
    "default": "arbitrum-sepolia-testnet",
    "chains": {"arbitrum-sepolia-testnet": {}, "arbitrum-mainnet": {}},
}
"""chain.json of a new folder."""


def load_chain(folder: Path, wanted: str | None) -> ChainSettings:
    """The chain that `--chain` names, or the default one of the folder's chain.json. Raises IexecError."""
    return choose(check(read_json(folder, CHAIN_FILE)), wanted)


def check(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give back the content of a chain.json that follows a schema. Raises ValidationError."""
    for key in content:
        if key not in TOP_KEYS:
            raise _unknown(key, TOP_KEYS, at="the top")
    if not isinstance(content.get("default", ""), str):
        raise _malformed("default", "a string", content["default"])
    chains = content.get("chains")
    if not isinstance(chains, dict):
        raise _malformed("chains", "an object of chains", chains)
    for name, chain in chains.items():
        if not isinstance(chain, dict):
            raise _malformed(f"chains.{name}", "an object", chain)
        for key, value in chain.items():
            _check_key(f"chains.{name}.{key}", key, value)
    return content


def choose(content: Mapping[str, Any], wanted: str | None) -> ChainSettings:
    """Choose among the chains of a checked chain.json by name, or else by id. Raises IexecError."""
    chains: Mapping[str, Mapping[str, Any]] = content["chains"]
    name = wanted if wanted is not None else content.get("default")
    if name is None:
        raise IexecError(
            f'Missing chain parameter. Check your "{CHAIN_FILE}" file',
            expected='a "default" in it, or the option --chain',
        )
    if name not in chains:
        of_id = [one for one, chain in chains.items() if chain.get("id", _id_of(one)) == name]
        if not of_id:
            raise IexecError(f'Missing "{name}" chain in "{CHAIN_FILE}"', expected=" or ".join(chains))
        name = of_id[0]
    return _merged(name, chains[name])


def _merged(name: str, chain: Mapping[str, Any]) -> ChainSettings:
    """A chain's own keys over the defaults of its id."""
    chain_id: str | None = chain.get("id", _id_of(name))
    defaults = next((one for one in DEFAULTS if one.id == chain_id), ChainSettings(name=name))
    if chain.get("native", chain_id == "134"):
        raise ConfigurationError(
            f'chain "{name}" is native',
            expected='a hub with an RLC token, "native": false',
            got='"native": true' if "native" in chain else f"id {chain_id}",
            next_step="choose another chain with --chain; native hubs were given up by version 9",
        )
    sms = chain.get("sms", defaults.sms)
    return ChainSettings(
        name=name,
        id=chain_id,
        host=_host(chain.get("host"), defaults.host),
        hub=chain.get("hub", defaults.hub),
        sms={"": sms} if isinstance(sms, str) else sms,
        iexec_gateway=chain.get("iexecGateway", defaults.iexec_gateway),
        ipfs_gateway=chain.get("ipfsGateway", defaults.ipfs_gateway),
        compass=chain.get("compass", defaults.compass),
        poco_subgraph=chain.get("pocoSubgraph", defaults.poco_subgraph),
        result_proxy=chain.get("resultProxy", defaults.result_proxy),
        use_gas=chain.get("useGas", True),
        is_default_host="host" not in chain,
    )


def _host(written: str | None, default: str | None) -> str | None:
    """A URL, or the URL of a chain that is known by name or id."""
    if written is None:
        return default
    if written.startswith(("http://", "https://")):
        return written
    for one in DEFAULTS:
        if written in (one.name, one.id) and one.host is not None:
            return one.host
    raise ConfigurationError(
        "Invalid provider host name or url",
        expected="http://…, https://… or the name of a known chain",
        got=written,
        next_step=f'correct "host" in {CHAIN_FILE}',
    )


def _id_of(name: str) -> str | None:
    return next((one.id for one in DEFAULTS if one.name == name), None)


def _check_key(path: str, key: str, value: object) -> None:
    if key not in KEYS_9 and key not in KEYS_8:
        raise _unknown(key, (*KEYS_9, *KEYS_8), at=path)
    if key == "id" and not (isinstance(value, str) and value.isascii() and value.isdigit()):
        raise _malformed(path, 'a string of digits, such as "421614"', value)
    if key in _TEXT and not isinstance(value, str):
        raise _malformed(path, "a string", value)
    if key in _TRUTH and not isinstance(value, bool):
        raise _malformed(path, "true or false", value)
    if key == "sms":
        urls = value if isinstance(value, dict) else {TEE_FRAMEWORKS[0]: value}
        if not all(isinstance(url, str) and framework in TEE_FRAMEWORKS for framework, url in urls.items()):
            raise _malformed(path, f"a URL, or an object of {', '.join(TEE_FRAMEWORKS)} and URLs", value)
    is_url = key in ("sms", "iexecGateway", "ipfsGateway", "compass") and isinstance(value, str)
    if is_url and not str(value).startswith(("http://", "https://")):
        raise _malformed(path, "http://… or https://…", value)


def _unknown(key: str, known: tuple[str, ...], *, at: str) -> ValidationError:
    like = get_close_matches(key, known, n=1)
    fix = f'write "{like[0]}" if that is what you mean' if like else "remove it"
    return ValidationError(
        f'Unknown key "{key}" in {CHAIN_FILE}', expected=", ".join(known), got=at, next_step=fix
    )


def _malformed(path: str, expected: str, got: object) -> ValidationError:
    return ValidationError(
        f"{path} is malformed in {CHAIN_FILE}",
        expected=expected,
        got="nothing" if got is None else json.dumps(got)[:100],
    )
