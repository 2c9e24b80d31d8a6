"""Seats: the limit on running servers, and the count that keeps it true."""
