"""Two nodes on one machine: network namespaces, jobs across them, and what crosses the link between them."""
