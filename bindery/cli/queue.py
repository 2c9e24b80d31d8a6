"""`bindery queue`."""

from bindery.cli.gateway import Gateway, connect, operator_token


def queue(*, gateway: Gateway = None) -> None:
    """Print how many builds wait and run, how many may run, and the same for each worker."""
    with connect(gateway) as client:
        builds = client.queue(operator_token=operator_token())

    waiting_time = f", the first for {builds.oldest_waiting_seconds:.0f} s" if builds.depth else ""
    print(f"waiting  {builds.depth}{waiting_time}")
    print(f"running  {builds.running} of {builds.capacity}")
    for worker in builds.workers:
        print(f"worker   {worker.running} of {worker.slots}  {worker.name}".rstrip())
