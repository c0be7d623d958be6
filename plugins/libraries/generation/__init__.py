"""Going on with texts: prompts, the choice of tokens, and the loop that a decoder is stepped by."""
