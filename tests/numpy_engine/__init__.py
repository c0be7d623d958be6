"""A second engine, in numpy and in one process: it shows that models, tasks and the trainer know no engine."""
