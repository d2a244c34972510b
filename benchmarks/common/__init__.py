"""What the benchmark scripts share: workloads, rivals, timing, machine figures, tables.

Scripts are run as ``python benchmarks/NAME.py``, so this package is imported as ``common``.
"""
