"""Invented labelled texts from tables of subjects, verbs and events. Read invent.py first."""
