"""The builder: names images, queues builds, and supervises what builds them."""
