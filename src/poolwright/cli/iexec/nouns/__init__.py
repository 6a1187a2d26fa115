"""The nouns of the `iexec` command, each loaded only when it is called."""
