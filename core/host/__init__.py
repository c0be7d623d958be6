"""Loading plugins, holding them to the contract, and calling their hooks."""
