"""Whether the secret service holds what an order will need (reference: market-sdk.md 3.6, 5.1).

Only presence is asked, which is public. An order that needs no secret asks nothing, and needs no `sms` in
chain.json. The official client wants that key in any case, so a network without a secret service names there
a server that answers 501 to such questions; that is told as what it is, not as a missing secret.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.http import NOT_IMPLEMENTED
from poolwright.cli.iexec.preflight import Finding
from poolwright.poco.orders import DatasetOrder, Order, RequestOrder
from poolwright.poco.tags import TEE
from poolwright.poco.types import Address


class SmsCallError(IexecError):
    """The secret service does not answer, or has trouble; check `sms` of chain.json, or try later."""

    name: ClassVar[str] = "SmsCallError"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A secret that must be there."""

    path: str
    """Answers 204 to HEAD when the secret is there."""
    finding: Finding
    """What is wrong when it is not."""


def needs_of(order: Order) -> tuple[Need, ...]:
    """The secrets without which the order's tasks would fail. Pure."""
    if isinstance(order, DatasetOrder):
        return (_dataset_key("Dataset", "datasetorder", order.dataset),) if order.tag & TEE else ()
    if not isinstance(order, RequestOrder):
        return ()
    needs: list[Need] = []
    params = _params(order.params)
    if params.get("iexec_result_encryption") is True:
        needs.append(
            _web2(
                order.beneficiary,
                "iexec-result-encryption-public-key",
                "Beneficiary result encryption key is not set in the SMS. Result encryption will fail.",
                "run `iexec result push-encryption-key` with the official client, or ask for no encryption",
            )
        )
    if params.get("iexec_result_storage_provider") == "dropbox":
        needs.append(
            _web2(
                order.requester,
                "iexec-result-dropbox-token",
                'Requester storage token is not set for selected provider "dropbox". '
                "Result archive upload will fail.",
                'choose the storage provider "ipfs"',
            )
        )
    if order.dataset and order.tag & TEE:
        needs.append(_dataset_key("Request", "requestorder", order.dataset))
    secrets = params.get("iexec_secrets")
    for name in secrets.values() if isinstance(secrets, dict) else ():
        needs.append(
            Need(
                path=f"/requesters/{order.requester}/secrets/{name}",
                finding=_finding(
                    "Request",
                    "requestorder.params.iexec_secrets",
                    f'Requester secret "{name}" is not set for requester {order.requester} in the SMS. '
                    "Requester secret provisioning will fail.",
                    "push the secret first",
                ),
            )
        )
    return tuple(needs)


async def missing(url: str, needs: Sequence[Need]) -> list[Finding]:
    """The findings of the secrets that are not there. Raises SmsCallError."""
    from poolwright.cli.iexec.market_client import HttpService

    findings = []
    async with HttpService(url, "SMS", SmsCallError) as service:
        for need in needs:
            status = (await service.exchange("HEAD", need.path)).status
            if status == NOT_IMPLEMENTED:
                raise SmsCallError(
                    "This network offers no secret service",
                    expected=f"a secret for {need.finding.field}",
                    got=f"HTTP status {status} of {url}",
                    next_step=f"leave {need.finding.field} without secrets, or correct sms in chain.json",
                )
            if status == 404:
                findings.append(need.finding)
            elif not 200 <= status < 300:
                raise SmsCallError(f"SMS answered with unexpected status: {status}", got=need.path)
    return findings


def _dataset_key(who: str, kind: str, dataset: Address) -> Need:
    return Need(
        path=f"/secrets/web3?{urlencode({'secretAddress': str(dataset)})}",
        finding=_finding(
            who,
            f"{kind}.dataset",
            f"Dataset encryption key is not set for dataset {dataset} in the SMS. "
            "Dataset decryption will fail.",
            "push the dataset's key first",
        ),
    )


def _web2(owner: Address, name: str, sentence: str, next_step: str) -> Need:
    return Need(
        path=f"/secrets/web2?{urlencode({'ownerAddress': str(owner), 'secretName': name})}",
        finding=_finding("Request", "requestorder.params", sentence, next_step),
    )


def _finding(who: str, field: str, sentence: str, next_step: str) -> Finding:
    return Finding(
        field=field,
        got="no such secret",
        expected="it in the secret service",
        sentence=f"{who} requirements check failed: {sentence}",
        next_step=next_step,
    )


def _params(text: str) -> dict[str, Any]:
    try:
        params = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return params if isinstance(params, dict) else {}
