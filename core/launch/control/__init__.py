"""What keeps a job together: ranks, their launcher and the launchers of other nodes tell each other how they are."""
