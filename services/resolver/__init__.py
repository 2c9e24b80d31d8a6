"""The resolver service: from a repository link to the immutable repository and commit that it means."""
