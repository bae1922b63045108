"""The network that is looked at, and its gradients."""
