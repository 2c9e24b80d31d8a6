"""The proxy of our own hub: Traefik, with a bound on connecting to servers, and an answer of ours for ended ones.

Requests for which there is no route go to the gateway instead of the hub. So do those for a server whose container or
process is gone while its route is still there: the hub removes the route when it next asks how its servers are.
"""

from typing import Any
from urllib.parse import urlsplit

from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy
from jupyterhub_traefik_proxy.traefik_utils import deep_merge
from traitlets import Float, TraitError, Unicode, validate

Rules = dict[str, Any]
"""A part of Traefik's dynamic configuration."""

_ENDED = "bindery_ended"
_UNANSWERED = "bindery_unanswered"
_SERVERS = "bindery_servers"

_NOT_REACHED = ("502", "504")
"""Statuses by which Traefik says that it did not reach a server: the connection failed, or took too long."""


class BinderyTraefikProxy(TraefikFileProviderProxy):
    """Traefik, whose rules the hub writes to a file."""

    ended_url = Unicode(
        "",
        config=True,
        help="Address of the answer to requests without a route; its path replaces theirs. Empty: there is none.",
    )
    connect_seconds = Float(3.0, config=True, help="How long a connection to a server may take to be made.")

    extra_dynamic_config: Rules

    @validate("ended_url")
    def _check_ended_url(self, proposal: Any) -> str:
        parts = urlsplit(str(proposal.value))
        if proposal.value and not (parts.scheme in {"http", "https"} and parts.netloc and len(parts.path) > 1):
            raise TraitError(f"{proposal.value!r} is not the address of an answer: write http://host:port/path")
        return str(proposal.value)

    async def _setup_traefik_dynamic_config(self) -> None:
        self._renew_rules()
        self.extra_dynamic_config = deep_merge(self._own_rules(), self.extra_dynamic_config)
        await super()._setup_traefik_dynamic_config()

    def _renew_rules(self) -> None:
        """Rewrite what an earlier hub has written to the file, which may have had other settings."""
        http = self.dynamic_config["http"]
        for section in ("routers", "services", "middlewares"):
            for name in (_ENDED, _UNANSWERED):
                http.get(section, {}).pop(name, None)

        for route in self.dynamic_config["jupyterhub"]["routes"].values():
            rules, _ = self._dynamic_config_for_route(route["routespec"], route["target"], route.get("data", {}))
            for section, renewed in rules["http"].items():
                http[section] |= renewed

    def _own_rules(self) -> Rules:
        timeouts = {"dialTimeout": f"{self.connect_seconds}s"}
        http: Rules = {"serversTransports": {_SERVERS: {"forwardingTimeouts": timeouts}}}
        if self.ended_url:
            url = urlsplit(self.ended_url)
            http["routers"] = {
                _ENDED: {
                    "rule": "PathPrefix(`/`)",
                    "priority": 1,
                    "entryPoints": [self.traefik_entrypoint],
                    "middlewares": [_ENDED],
                    "service": _ENDED,
                }
            }
            http["services"] = {_ENDED: {"loadBalancer": {"servers": [{"url": f"{url.scheme}://{url.netloc}"}]}}}
            http["middlewares"] = {
                _ENDED: {"replacePath": {"path": url.path}},
                _UNANSWERED: {
                    "errors": {
                        "status": list(_NOT_REACHED),
                        "statusRewrites": dict.fromkeys(_NOT_REACHED, 424),
                        "service": _ENDED,
                        "query": f"{url.path}?unanswered",
                    }
                },
            }
        return {"http": http}

    def _dynamic_config_for_route(self, routespec: str, target: str, data: Rules) -> tuple[Rules, Rules]:
        rules, stored = super()._dynamic_config_for_route(routespec, target, data)
        if "user" in data:
            for service in rules["http"]["services"].values():
                service["loadBalancer"]["serversTransport"] = _SERVERS
            if self.ended_url:
                for router in rules["http"]["routers"].values():
                    router["middlewares"] = [_UNANSWERED]
        return rules, stored
