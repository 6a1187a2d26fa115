"""The words that describe an execution, as the terms of a request. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.order_forms import Params, parse_secrets, read_params, read_tag, signed_params
from poolwright.cli.iexec.values import address_of, number_of
from poolwright.poco.tags import NO_TAG, Tag
from poolwright.poco.types import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionWords:
    """What `app run` and `app request-execution` have in common, as it was typed."""

    dataset: str | None = None
    workerpool: str | None = None
    args: str | None = None
    input_files: str | None = None
    secret: tuple[str, ...] = ()
    category: str | None = None
    tag: str | None = None
    storage_provider: str | None = None
    callback: str | None = None
    encrypt_result: bool = False
    trust: str | None = None
    beneficiary: str | None = None
    params: str | None = None

    def read_tag(self) -> Tag:
        """The tag asked for. Raises ValidationError."""
        return NO_TAG if self.tag is None else read_tag(self.tag)

    def read_category(self) -> int | None:
        """The category asked for, if one is. Raises ValidationError."""
        return None if self.category is None else number_of(self.category, "category")

    def read_trust(self) -> int:
        """The trust asked for. Raises ValidationError."""
        return 0 if self.trust is None else number_of(self.trust, "trust")

    def params_object(self) -> Params:
        """`--params`, and on top of it what the other options say. Raises ValidationError."""
        params: dict[str, Any] = read_params(self.params or {})
        if self.args is not None:
            params["iexec_args"] = self.args
        if self.input_files is not None:
            params["iexec_input_files"] = self.input_files
        if self.secret:
            params["iexec_secrets"] = parse_secrets(list(self.secret))
        if self.storage_provider is not None:
            params["iexec_result_storage_provider"] = self.storage_provider
        if self.encrypt_result:
            params["iexec_result_encryption"] = True
        return read_params(params)

    def request_terms(self, requester: Address) -> dict[str, Any]:
        """The fields of the request that do not depend on other orders. Raises IexecError."""
        tag = self.read_tag()
        params = self.params_object()
        if params.get("iexec_result_encryption") and not tag & 1:
            raise IexecError(
                "iexec_result_encryption is not supported for non TEE tasks",
                expected="a tag with tee",
                got=", ".join(tag.names) or "no flag",
            )
        callback = Address.zero() if self.callback is None else address_of(self.callback)
        return {
            "requester": requester,
            "beneficiary": requester if self.beneficiary is None else address_of(self.beneficiary),
            "callback": callback,
            "tag": tag,
            "trust": self.read_trust(),
            "params": signed_params(params, callback, tag),
        }
