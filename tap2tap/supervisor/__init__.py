"""The control plane: makes the tap, the UDP socket and the shared memory; starts, watches and replaces its children.

    main          the start of a tunnel, in its order; `tunnel` is what it does then, until its end
    loop          the loop meanwhile, and what the parts are that it looks after
    signals       the signals that end it; `state` is the line that SIGHUP writes
    cable         the tap, the socket and the memory that the children are lent

    tap_setup     setting up the tap; `tap_keeper` is the process that leaves an existing one as it was found
    tap_users     the other programs that hold a tap
    bridges       the bridge that it is a port of
    binding       what the socket is bound to, waited for; `stand_in` is a socket that has its place meanwhile

    candidates    where the peer may be: what each `remote` stands for; `resolver` is the process that looks names up
    calling       has the peer called there; `turns` is how, in the plain protocol
    wake_ups      has it called when the machine has slept
    routes        the routes to it; `plain_path` is the MTU that they have; `netlink` is how the kernel is asked

    child         a worker or the link process through all its lives, which `restart` has the rules for
    workers       the two workers as such children
    link_process  the link process as one; `fork_server` is the process that forks it
    call_back     the file that remembers where the peer was
    process       the one way to start a process
    run_in_child  a process that works one thing out

    hooks         the process that runs the user's programs
    publisher     the counter block, for `tap2tap stats`

It holds no key and reads no datagram.
"""
