"""Evaluation of accuracy and cost: outputs of every exit, policies over them, certificates.

Read outputs.py first.
"""
