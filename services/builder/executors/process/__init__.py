"""The executor that builds without a container engine: one process for each build, images as folders."""
