"""A whole pool under faults, simulated: the real minds, the PoCo model, a virtual clock, one seed.

faults   what goes wrong and how often, drawn from the seed
clock    virtual time: a heap of what is due
chain    blocks, mempool and reorgs around `poco.model`, and what one process sees of them
sender   one wallet's transactions, as the real sender promises them
process  a mind with its durable disk: step, commit, let go, die, restore
links    connections that are cut, numbered messages that come twice
pool     the scheduler's process      worker   a worker's process and its machine
world    who takes part, what they trade, and when it goes wrong
checks   what must hold               story    what happened, and which moves were reached
runs     one seed, many seeds, a smaller story of a failing one
"""
