"""apt.txt: packages of the operating system, which a process cannot install."""

from services.builder.executors.process.session.plan.checkout import Checkout
from services.builder.executors.process.session.plan.refusals import unsupported


def refuse_system_packages(checkout: Checkout) -> None:
    """Raise `StepError` if apt.txt names a package. Comments and empty lines ask for nothing."""
    path = checkout.find("apt.txt")
    if path and any(line.partition("#")[0].strip() for line in checkout.text(path).splitlines()):
        raise unsupported(checkout.name(path), "packages of the operating system")
