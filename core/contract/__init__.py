"""What a plugin is written against: hooks, options, blocks, tasks, datasets, tokenizers, schedules, layouts."""
