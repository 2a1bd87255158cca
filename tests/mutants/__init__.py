"""Mutants of the code that protects: each weakens one guarantee, and a test must notice."""
