"""The product shown on one machine: `tap2tap demo`, and its lab of hosts in network namespaces."""
