"""The fault matrix: every step boundary of every part, every fault, and a ledger of what became of the work.

boundaries.py   where a fault can strike: before, during and after each step
armed.py        runs a process of the suite that strikes when it reaches its boundary
workers.py      a consumer of events and a job, which write down what they have done
parts.py        the work that each part is given, and the ledger of it
cells.py        one cell: load, faults, recovery, count
__main__.py     the table: make faults
"""
