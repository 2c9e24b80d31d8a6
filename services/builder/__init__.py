"""The builder: names images, queues builds, and supervises their executions."""
