"""Which kernels compute, and whether losses, gradients and weights are finite numbers."""
