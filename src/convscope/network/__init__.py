"""The network and its gradients."""
