"""The `iexec` command: the official client's words, files and answers (reference: market-sdk.md 1, 2).

    main      names the nouns and loads the one that is called
    command   what a verb is: its shared options, its outcome, its errors
    output    how outcomes are told: to people, or as --raw JSON
    files     iexec.json, chain.json, deployed.json, orders.json of the project folder
    chains    which chain a command is about
    wallets   which wallet a command uses
    session   one command's chain reads and its wallet
    sending   its transactions
    http      its HTTP, to nodes and to services
    nouns/    one module per noun

It starts fast because of one rule about imports. A noun imports at its top what describes its verbs (click,
words, errors); a verb imports in its body what it works with. Every other module imports at its top what it
always needs; what only some of its callers need is a module of its own, imported where the need is known.
`tests/unit/cli/iexec/test_iexec_start.py` keeps it; `python -X importtime -m poolwright.cli.iexec` shows it.
"""
