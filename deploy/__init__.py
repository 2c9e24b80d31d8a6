"""How Bindery is deployed: the embedded stack, the hub and its spawners, images, Kubernetes."""
