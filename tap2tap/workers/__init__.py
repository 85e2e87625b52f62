"""The data plane: one process a direction, outbound (tap to UDP) and inbound (UDP to tap).

    outbound  the loop: read, split, seal, send
    inbound   the loop: receive, open, join, write
    worker    what both are given, and what both do before
    pin       which CPU a worker runs on

    train     a run of frames or datagrams of one size: what each of these takes and hands on
    arena     the memory that they lie in
    tap, udp  the system calls
    gather    from the tap to trains
    offload   split, and join: the only code that knows IP, TCP and UDP
    stages    seal, and open: what a protocol does, each in a module of its own
    aead      encryption by libcrypto, which `libcrypto` finds; `ciphers` chooses it, or `cryptography`
    send      from trains to the socket; `backlog` says how much may wait there
    receive   from the socket to trains
    write     from trains to the tap

What runs for each train has its C types in a .pxd and is compiled where there is a compiler (setup.py).
"""
