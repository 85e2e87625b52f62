"""The control plane: makes the tap, the UDP socket and the shared memory; starts, watches and replaces its children.

    main          a tunnel from its options to its end
    loop          what it does meanwhile
    cable         the tap, the socket and the memory that the children are lent
    tap_setup     setting up the tap; `tap_keeper` is the process that leaves an existing one as it was found
    tap_users     the other programs that hold a tap
    signals       the signals that end it

    child         a worker or the link process through all its lives, which `restart` has the rules for
    workers       the two workers as such children
    link_process  the link process as one; `fork_server` is the process that forks it
    call_back     the file that remembers where the peer was
    process       the one way to start a process
    run_in_child  a process that works one thing out

    hooks         the process that runs the user's programs
    resolver      the process that has the remote's name looked up
    publisher     the counter block, for `tap2tap stats`

It holds no key and reads no datagram.
"""
