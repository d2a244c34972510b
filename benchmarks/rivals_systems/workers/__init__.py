"""One file for each kind of system; it runs in that system's own environment.

The surprise: nothing here may import from outside this folder, since neither torch nor masked_attn
nor the rest of the benchmarks need be there.
"""
