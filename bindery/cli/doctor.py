"""`bindery doctor`."""

from bindery.cli.checkout import embedded_stack


def doctor() -> int:
    """Print a table of what `up` needs; return 1 if something is missing."""
    with embedded_stack("doctor") as settings:
        from bindery.doctor import examine, table

        findings = examine(settings)
        print(table(findings))

    return int(not all(finding.is_well for finding in findings))
