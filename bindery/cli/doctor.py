"""`bindery doctor`."""

from bindery.cli.checkout import embedded_stack


def doctor() -> int:
    """Print a table of what `up` needs; return 1 if something is missing."""
    with embedded_stack("doctor") as settings:
        from bindery.doctor import format_table, run_checks

        findings = run_checks(settings)
        print(format_table(findings))

    return int(not all(finding.is_well for finding in findings))
