"""How fast it is: `make load` prints one table. Load goes to loopback only, unless `--target` names a gateway."""
