"""The core of pipeloom: it knows the contract (hookspecs), and no model, strategy or dataset by name."""
