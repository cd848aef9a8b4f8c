"""The requester's exchanges, one generator for each request of DSP0274."""
