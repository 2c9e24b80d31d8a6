"""Builds as Jobs of a Kubernetes cluster. Imported only if it is used: its client library is large."""
