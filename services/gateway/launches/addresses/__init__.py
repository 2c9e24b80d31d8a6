"""Reading of the addresses that people paste: which repository, ref and file they mean."""
