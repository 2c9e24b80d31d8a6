"""The four stages of a launch, and what they share in `common`."""
