"""How good a model is at which cost: outputs of every exit, policies over them, certificates. Read outputs.py first."""
