"""Benchmarks: what the server costs in CPU time and memory, beside what the same work costs without it.

``python -m benchmarks`` runs them against a server process of their own, on the loopback interface only.
"""
