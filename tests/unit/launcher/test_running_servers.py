"""The servers that a ban may end: those that run or start, with the links that they were launched by."""

from services.common.models import Spec
from services.common.redis.keys import Kind, Topic
from services.launcher.running_servers import running_servers
from tests.support.in_process_launcher import REPO, StartLauncher


async def test_a_server_is_listed_with_its_link_until_it_is_ended(start_launcher: StartLauncher) -> None:
    async with start_launcher() as launcher:
        servers = [await launcher.outcome(await launcher.request_server(name)) for name in ("one", "two", "three")]
        listed = await running_servers(launcher.context, launcher.seats)
        assert {each.server_id for each in listed} == {server.server_id for server in servers}
        link = listed[0].link
        assert (link.spec, link.repo) == (Spec(provider=REPO.provider, spec=REPO.spec), REPO)

        await launcher.servers.stop(servers[0].server_id, even_ready=True)
        await launcher.outcome(servers[0])
        damaged = launcher.context.keys.record(Topic(Kind.SERVER, servers[1].server_id))
        await launcher.context.redis.hset(damaged, "request", "{")
        listed = await running_servers(launcher.context, launcher.seats)
        assert [each.server_id for each in listed] == [servers[2].server_id]
