"""
A real Injective node on loopback, with real trading: `collector devnet`.

The command starts a keeper, the keeper starts the node and the trader; each dies with the one
above it, and the keeper takes the temporary home with it:

    collector devnet ──pipe──► keeper ──► injectived      (the chain, markets in its genesis)
                                     └──► trader          (signs and sends orders, every block)

Read `command`, then `keeper`, `node` and `genesis`; for the trading `trader` and `flow`.
"""
