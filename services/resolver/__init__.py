"""The resolver: from a repository link to the immutable thing that it means."""
