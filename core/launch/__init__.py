"""Starting, watching and stopping the ranks of a job on its nodes."""
