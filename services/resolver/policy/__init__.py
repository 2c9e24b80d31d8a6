"""What an operator lets be launched here, and how: in one place, for links of every provider."""
