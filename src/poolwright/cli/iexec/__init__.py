"""The `iexec` command: the official client's words, files and answers (reference: market-sdk.md 1, 2).

    main      names the nouns and loads the one that is called
    command   what a verb is: its shared options, its outcome, its errors
    output    how outcomes are told: to people, or as --raw JSON
    files     iexec.json, chain.json, deployed.json, orders.json of the project folder
    chains    which chain a command is about
    wallets   which wallet a command uses
    session   one command's chain reads and transactions
    nouns/    one module per noun

Nothing is imported before it is needed: a verb that reads one file does not load HTTP or signature libraries.
"""
