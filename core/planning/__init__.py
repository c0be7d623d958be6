"""From a configuration to a checked plan: layout, partition, placement, traffic. No engine is started here."""
