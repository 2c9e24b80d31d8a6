"""What every stage shares: the contract, the event bus, leases, and the web and settings scaffolding."""
