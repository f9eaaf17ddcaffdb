"""Files of others: IDX data, SCALE-Sim topologies and configs, parameter text for hardware."""
