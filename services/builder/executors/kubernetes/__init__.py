"""Builds as Jobs of a Kubernetes cluster. Imported only by who uses it: the client below it is large."""
