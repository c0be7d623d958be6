"""Commands beside ``train`` and ``plugins``, each with a ``COMMAND``: ``pipeloom.core.contract.commands.Command``."""
