"""Settings of services that connect to external hosts."""

from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from services.common.net.networks import NetworkPolicy, networks_of
from services.common.net.proxy import OutboundProxy
from services.common.service.settings import ServiceSettings


class OutboundSettings(ServiceSettings):
    """Settings of services that connect to external hosts: the resolver, the builder and its workers."""

    allowed_networks: str = Field(
        "", description="CIDRs, comma-separated, that links may lead to although they are not public: 10.0.0.0/8."
    )
    refused_networks: str = Field(
        "",
        description="CIDRs, comma-separated, that links may not lead to although they are public, whatever "
        "`allowed_networks` says: a cluster's own ranges. This machine's own addresses are refused unless allowed.",
    )

    outbound_proxy: SecretStr = Field(
        SecretStr(""),
        description="HTTP proxy, as `http://user:password@host:3128`, for requests to git repositories, GitHub's "
        "API and the image registry. The proxy must then refuse private addresses: "
        "[more](operators.md#an-outbound-proxy).",
    )
    outbound_proxy_except: str = Field(
        "",
        description="Host names (with their subdomains) and CIDRs, comma-separated, that are asked without the "
        "proxy: internal forges and registries.",
    )

    @field_validator("allowed_networks", "refused_networks")
    @classmethod
    def _networks(cls, value: str) -> str:
        networks_of(value)
        return value

    @model_validator(mode="after")
    def _is_proxy(self) -> Self:
        OutboundProxy.of(self.outbound_proxy.get_secret_value(), self.outbound_proxy_except)
        return self

    @property
    def proxy(self) -> OutboundProxy | None:
        """The outbound proxy, if one is configured."""
        return OutboundProxy.of(self.outbound_proxy.get_secret_value(), self.outbound_proxy_except)

    @property
    def networks(self) -> NetworkPolicy:
        """Policy for the addresses that a link may lead to."""
        return NetworkPolicy.of(self.allowed_networks, self.refused_networks)
