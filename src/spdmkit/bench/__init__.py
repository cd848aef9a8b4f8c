"""Benchmarks: our cost beside the floor of what it contains, measured in the same run.

Costs are CPU time of our own process, never elapsed time: other programs on the machine disturb
it least. Figure and floor are measured in turns, in several rounds; a result is the quotient of
the medians, and how far the rounds lie apart is told beside it.
"""
