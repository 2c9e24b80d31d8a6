"""A Bindery in containers or pods: what its parts say at their own addresses, with the installation's secrets."""

import contextlib
from abc import abstractmethod
from collections.abc import Iterator

import httpx
import redis

from deploy.redis.users import redis_user_name
from tests.support.launching import Launching

SERVICES = ("gateway", "resolver", "builder", "worker", "launcher")
"""Parts that are services of ours."""


class Installed(Launching):
    """An installation whose parts this machine reaches, and whose secrets it knows."""

    HUB = "hub"
    """The name of the hub's part."""

    @abstractmethod
    def address(self, part: str) -> str:
        """Return the address of a part."""

    @abstractmethod
    def secret_of(self, name: str) -> str:
        """Return one of its secrets, by its name in the chart."""

    @property
    def installation(self) -> dict[str, str]:
        return {"installation_id": self.secret_of("installation-id")}

    def part_client(self, part: str) -> httpx.Client:
        """Return a client for the requests that a service of ours gets from the others, with their token."""
        headers = {"Authorization": f"Bearer {self.secret_of('service-token')}"}
        return httpx.Client(base_url=f"http://{self.address(part)}:8080", headers=headers, timeout=60, trust_env=False)

    def hub(self, method: str, path: str) -> httpx.Response:
        """Send a request to the hub's API with the launcher's token."""
        headers = {"Authorization": f"token {self.secret_of('hub-api-token')}"}
        return self.client.request(method, f"http://{self.address(self.HUB)}:8081/hub/api/{path}", headers=headers)

    def hub_users(self) -> dict[str, list[str]]:
        """Return every user on the hub, with the names of their servers."""
        reply = self.hub("GET", "users").raise_for_status()
        return {user["name"]: sorted(user.get("servers") or {}) for user in reply.json()}

    def delete_hub_user(self, name: str) -> None:
        """Delete a user of the hub with its servers, as the culler does; to be called again while one stops."""
        self.hub("DELETE", f"users/{name}")

    @contextlib.contextmanager
    def redis(self) -> Iterator["redis.Redis"]:
        """Keep a client that may do everything."""
        with redis.Redis(
            self.address("redis"), username=redis_user_name("admin"), password=self.secret_of("redis-admin-password")
        ) as client:
            yield client

    def redis_keys(self) -> set[str]:
        with self.redis() as client:
            return {key.decode() for key in client.keys("*")}

    def refused_by_redis(self) -> list[dict[str, str]]:
        """Return what Redis has refused to which user since its start; a service that lacks a right is a fault."""
        with self.redis() as client:
            names = ("username", "context", "object")
            return [{name: str(entry[name]) for name in names} for entry in client.acl_log()]
